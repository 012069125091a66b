package mysql

import (
	"strings"
	"testing"
)

// The statements that MySQL's manual has, also where there is none to test on.
func TestMySQLStatements(t *testing.T) {
	t.Parallel()
	got := makeAccount(oracle, accountForm{
		name: "bdy_a_2", database: "bdy_a_1", rights: readRights, password: "hashcat", salt: "ABCDEFGHIJKLMNOPQRST", tls: true, limit: 3,
	})
	const begins = "CREATE USER 'bdy_a_2'@'%' IDENTIFIED WITH caching_sha2_password AS 0x2441243030352441424344"
	const ends = " REQUIRE SSL WITH MAX_USER_CONNECTIONS 3; GRANT SELECT, SHOW VIEW ON `bdy\\_a\\_1`.* TO 'bdy_a_2'@'%'"
	if !strings.HasPrefix(got, begins) || !strings.HasSuffix(got, ends) {
		t.Errorf("got  %s\nwant %s…%s", got, begins, ends)
	}
	if strings.Contains(got, "hashcat") {
		t.Error("the statement has the password")
	}
}

func TestVersions(t *testing.T) {
	t.Parallel()
	for version, old := range map[string]bool{
		"10.11.19-MariaDB-0+deb12u1": false, "5.5.5-10.6.4-MariaDB": false, "10.5.2-MariaDB": false, "11.4.2-MariaDB-log": false,
		"10.5.1-MariaDB": true, "10.3.39-MariaDB": true, "8.0.36": false, "8.4.0-commercial": false, "9.1.0": false,
		"8.0.20": false, "8.0.19": true, "5.7.44-log": true, "": true, "x": true,
	} {
		if got := tooOld(version); got != old {
			t.Errorf("%q is too old: got %v, want %v", version, got, old)
		}
	}
}

func TestDefinersAreReplaced(t *testing.T) {
	t.Parallel()
	for statement, want := range map[string]string{
		"CREATE DEFINER=`a`@`%` PROCEDURE `p`() SELECT 1":                                                        "CREATE DEFINER=`b`@`0.0.0.0` PROCEDURE `p`() SELECT 1",
		`CREATE DEFINER="a"@"%" PACKAGE "p" AS END`:                                                              `CREATE DEFINER="b"@"0.0.0.0" PACKAGE "p" AS END`,
		"CREATE ALGORITHM=UNDEFINED DEFINER=`a`@`%` SQL SECURITY DEFINER VIEW `v` AS select ' DEFINER=`a`@`%` '": "CREATE ALGORITHM=UNDEFINED DEFINER=`b`@`0.0.0.0` SQL SECURITY DEFINER VIEW `v` AS select ' DEFINER=`a`@`%` '",
		"CREATE DEFINER=`c`@`%` PROCEDURE `p`() SELECT ' DEFINER=`a`@`%` '":                                      "",
		"CREATE PROCEDURE `p`() SELECT 1":                                                                        "",
	} {
		got, ok := withDefiner(statement, "a", "b")
		if got != want || ok != (want != "") {
			t.Errorf("%s: got %s, %v", statement, got, ok)
		}
	}
}
