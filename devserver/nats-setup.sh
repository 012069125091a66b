#!/bin/sh
# Makes the system user by which Bindery administers a NATS server, with nsc
# (https://github.com/nats-io/nsc) and as whoever holds the operator's keys:
#
#   sh setup.sh > bindery.creds
#
# SYS is the name of the system account. The file is Bindery's secret system_creds.
set -eu
account=${SYS:-SYS}
nsc add user --account "$account" --name bindery \
  --allow-pub '$SYS.REQ.CLAIMS.UPDATE' \
  --allow-pub '$SYS.REQ.CLAIMS.DELETE' \
  --allow-pub '$SYS.REQ.CLAIMS.PACK' \
  --allow-pub '$SYS.REQ.ACCOUNT.*.CLAIMS.LOOKUP' \
  --allow-pub '$SYS.REQ.ACCOUNT.*.CONNZ' \
  --allow-pub '$SYS.REQ.SERVER.*.KICK' \
  --allow-pub '$SYS.REQ.SERVER.*.STATSZ' \
  --allow-pub '$JS.API.ACCOUNT.PURGE.*' \
  --allow-pub 'bindery.>' \
  --allow-sub 'bindery.>' >&2
nsc generate creds --account "$account" --name bindery
