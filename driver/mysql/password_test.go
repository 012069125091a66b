package mysql

import (
	"encoding/hex"
	"testing"
)

// The expected values are others': those of the C library's SHA-256 crypt, of
// hashcat's example hashes (modes 300 and 7401), and of the server's own PASSWORD().
func TestHashes(t *testing.T) {
	t.Parallel()
	salt, err := hex.DecodeString("F9CC98CE08892924F50A213B6BC571A2C11778C5")
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ what, got, want string }{
		{"crypt", shaCrypt("Hello world!", "saltstring", 5000), "5B8vYYiY.CVt1RlTTf8KbXBH3hsxY/GNooZaBBGWEc5"},
		{"crypt", shaCrypt("Hello world!", "saltstringsaltst", 10000), "3xv.VbSHBb41AL9AvLeujZkZRBAwqFMz2.opqey6IcA"},
		{"sha2", sha2Hash("hashcat", string(salt)), "$A$005$" + string(salt) + "bTy95Y99eAME1dwEkHOA1ndHGBWz.1bxSSRkuTXFGV/"},
		{"native", nativeHash("hashcat"), "*FCF7C1B8749CF99D88E5F34271D636178FB5D130"},
		{"native", nativeHash("password"), "*2470C0C06DEE42FD1618BB99005ADCA2EC9D1E19"},
	} {
		if test.got != test.want {
			t.Errorf("%s: got %q, want %q", test.what, test.got, test.want)
		}
	}
}
