-- Prepares a MariaDB (10.5.2 or later) or MySQL (8.0.20 or later) server for
-- Bindery. Run it once as an administrator; it can be repeated.
--
--   mariadb < setup.sql        (or: mysql < setup.sql)
--
-- The account has no password yet, and is locked. Give it one then:
--
--   ALTER USER 'bindery'@'%' IDENTIFIED BY '…' ACCOUNT UNLOCK;
--
-- What it may do, and why:
--
-- - CREATE USER: an account for each binding. On MariaDB this is power over every
--   account of the server, administrators included: give Bindery a server of its
--   own, or guard this account as you guard theirs. MySQL keeps accounts with the
--   privilege SYSTEM_USER out of its reach: see that your administrators have it.
-- - PROCESS, CONNECTION ADMIN: to see and to end the sessions of accounts that are removed.
-- - SET USER (MySQL: SET_USER_ID, from 8.2 on SET_ANY_DEFINER) and the source of
--   routines: what a binding made is given to an account of its instance. From MySQL
--   8.2 on ALLOW_NONEXISTENT_DEFINER: an account that made a view which works no
--   more, and cannot be given away, is dropped all the same.
-- - The names in the tables of accounts and of their databases, not the hashes.
-- - Everything in databases whose name begins with bdy_, to pass it on.

CREATE USER IF NOT EXISTS 'bindery'@'%' ACCOUNT LOCK;
GRANT CREATE USER, PROCESS ON *.* TO 'bindery'@'%';
/*M!100502 GRANT CONNECTION ADMIN, SET USER ON *.* TO 'bindery'@'%' */;
/*M!100502 GRANT SELECT ON mysql.proc TO 'bindery'@'%' */;
/*!80020 GRANT CONNECTION_ADMIN, SHOW_ROUTINE ON *.* TO 'bindery'@'%' */;
/*!80020 SET @definer = 'SET_USER_ID' */;
/*!80200 SET @definer = 'SET_ANY_DEFINER, ALLOW_NONEXISTENT_DEFINER' */;
/*!80020 SET @definer = CONCAT('GRANT ', @definer, ' ON *.* TO ''bindery''@''%''') */;
/*!80020 PREPARE definer FROM @definer */;
/*!80020 EXECUTE definer */;
GRANT SELECT (User, Host) ON mysql.user TO 'bindery'@'%';
GRANT SELECT (User, Host, Db) ON mysql.db TO 'bindery'@'%';
GRANT ALL PRIVILEGES ON `bdy\_%`.* TO 'bindery'@'%' WITH GRANT OPTION;
