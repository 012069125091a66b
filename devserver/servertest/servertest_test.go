package servertest_test

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"bindery/devserver/servertest"
)

func TestMain(m *testing.M) {
	if os.Getenv("SERVERTEST_WITHOUT_MAIN") == "1" {
		os.Exit(m.Run())
	}
	servertest.Main(m)
}

func TestSharedServersAreShared(t *testing.T) {
	t.Parallel()
	if a, b := servertest.SharedRedis(t), servertest.SharedRedis(t); a != b || servertest.Redis(t).Addr == a.Addr {
		t.Error("the shared Redis is not the same one, or is not shared alone")
	}
	a := servertest.SharedPostgres(t, servertest.Oldest)
	if b := servertest.SharedPostgres(t, servertest.Oldest); a != b {
		t.Error("the shared PostgreSQL is not the same one")
	}
	newest := servertest.SharedPostgres(t, servertest.Newest)
	if newest.Version <= a.Version {
		t.Errorf("the newest is %d, the oldest %d", newest.Version, a.Version)
	}
}

// other runs one of the tests below in another process, and returns what it printed.
func other(t *testing.T, name string, env ...string) string {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.v", "-test.run=^"+name+"$")
	cmd.Env = append(os.Environ(), "SERVERTEST_OTHER=1")
	cmd.Env = append(cmd.Env, env...)
	out, err := cmd.CombinedOutput()
	if err != nil && !strings.Contains(string(out), "--- FAIL") {
		t.Fatalf("%v\n%s", err, out)
	}
	return string(out)
}

func onlyInOther(t *testing.T) {
	t.Helper()
	if os.Getenv("SERVERTEST_OTHER") == "" {
		t.SkipNow()
	}
}

func TestOtherPrivateRedis(t *testing.T) {
	onlyInOther(t)
	servertest.Redis(t)
}

func TestOtherSharedRedis(t *testing.T) {
	onlyInOther(t)
	servertest.SharedRedis(t)
}

func TestOtherPostgres99(t *testing.T) {
	onlyInOther(t)
	servertest.Postgres(t, "99")
}

func TestMissingServers(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		test string
		env  []string
		want string
	}{
		"a missing program skips": {
			test: "TestOtherPrivateRedis", env: []string{"BINDERY_REDIS_SERVER=no-such-redis", "BINDERY_TEST_ALL="}, want: "--- SKIP",
		},
		"a missing program fails when all is tested": {
			test: "TestOtherPrivateRedis", env: []string{"BINDERY_REDIS_SERVER=no-such-redis", "BINDERY_TEST_ALL=1"}, want: "--- FAIL",
		},
		"a missing program of a shared server skips": {
			test: "TestOtherSharedRedis", env: []string{"BINDERY_REDIS_SERVER=no-such-redis", "BINDERY_TEST_ALL="}, want: "--- SKIP",
		},
		"a missing version skips": {
			test: "TestOtherPostgres99", env: []string{"BINDERY_TEST_ALL="}, want: "--- SKIP",
		},
		"a missing version fails when all is tested": {
			test: "TestOtherPostgres99", env: []string{"BINDERY_TEST_ALL=1"}, want: "--- FAIL",
		},
		"a shared server without Main fails": {
			test: "TestOtherSharedRedis", env: []string{"SERVERTEST_WITHOUT_MAIN=1"}, want: "--- FAIL",
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if out := other(t, tt.test, tt.env...); !strings.Contains(out, tt.want) {
				t.Errorf("want %s in:\n%s", tt.want, out)
			}
		})
	}
}
