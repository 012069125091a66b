package drivertest

import (
	"context"
	"errors"
	"testing"
)

// RunDataless is [Run] for kinds whose sessions carry no data of an instance: a
// client of an authorization server, a certificate. A session is then something
// that can be asked whether it is alive, and wherever a case would write or read
// it is asked just that; its type embeds [NoData]. Cases about data are left out.
//
// Such a kind's server may give out credentials by itself, so that there is none
// to be rendered before Ensure; and it may have no inventory
// ([bindery.ErrNoInventory]), where the proof is the refused login alone.
func RunDataless(t *testing.T, shared, own func(t *testing.T) Server) {
	run(t, shared, own, aboutData, func(f *fixture) { f.dataless = true })
}

// aboutData are the cases that mean nothing where there is no data.
var aboutData = []string{
	"instances are fenced from each other",
	"a read-only account only reads",
	"removed data stays removed",
}

// NoData is the part of a [Session] that has none.
type NoData struct{}

// Write implements [Session].
func (NoData) Write(context.Context, string, string) error { return errors.ErrUnsupported }

// Read implements [Session].
func (NoData) Read(context.Context, string) (string, error) { return "", errors.ErrUnsupported }
