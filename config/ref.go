package config

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"

	"bindery"
)

// maxSecret bounds a file that holds a secret. The longest is the stock of a pool: 10,000 sets.
const maxSecret = 8 << 20

// A Ref says where a secret is: in a file or in an environment variable. It is
// read once, by Load.
type Ref struct {
	File string `yaml:"file" doc:"A file with the secret; a newline at its end does not count. Relative to the configuration file's folder."`
	Env  string `yaml:"env" doc:"The environment variable with the secret."`

	value bindery.Secret
}

// Set reports whether the reference was given.
func (r Ref) Set() bool { return r.File != "" || r.Env != "" }

// Secret returns what it refers to; empty where it was not given.
func (r Ref) Secret() bindery.Secret { return r.value }

// refs reads everything that is referred to.
func (c *checker) refs(v reflect.Value, path string) {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			c.refs(v.Elem(), path)
		}
	case reflect.Slice:
		for i := range v.Len() {
			c.refs(v.Index(i), path+"["+strconv.Itoa(i)+"]")
		}
	case reflect.Struct:
		if r, ok := v.Addr().Interface().(*Ref); ok {
			c.read(r, path)
			return
		}
		for i := range v.NumField() {
			name, _, _ := strings.Cut(v.Type().Field(i).Tag.Get("yaml"), ",")
			if name == "" {
				continue
			}
			c.refs(v.Field(i), strings.TrimPrefix(path+"."+name, "."))
		}
	default:
	}
}

func (c *checker) read(r *Ref, path string) {
	var text string
	switch {
	case !r.Set():
		if _, given := c.lines[path]; given {
			c.addf(path, "needs file or env")
		}
		return
	case r.File != "" && r.Env != "":
		c.addf(path, "has both file and env; give one")
		return
	case r.Env != "":
		v, ok := c.env(r.Env)
		if !ok {
			c.addf(path, "the environment variable %s is not set", r.Env)
			return
		}
		text = v
	default:
		b, err := c.readSecretFile(r.File)
		if err != nil {
			c.addf(path, "file %s: %v", r.File, err)
			return
		}
		text = string(b)
	}
	text = strings.TrimRight(text, "\r\n")
	if text == "" {
		c.addf(path, "is empty")
		return
	}
	r.value = bindery.NewSecret(text)
}

func (c *checker) readSecretFile(name string) ([]byte, error) {
	f, err := os.Open(c.abs(name))
	if err != nil {
		return nil, reason(err)
	}
	defer f.Close() //nolint:errcheck // only read
	info, err := f.Stat()
	switch {
	case err != nil:
		return nil, reason(err)
	case info.IsDir():
		return nil, errors.New("is a folder")
	case info.Mode().Perm()&0o007 != 0:
		c.warnf("%s holds a secret and everybody on this machine can open it (mode %04o)", name, info.Mode().Perm())
	}
	b, err := io.ReadAll(io.LimitReader(f, maxSecret+1))
	switch {
	case err != nil:
		return nil, reason(err)
	case len(b) > maxSecret:
		return nil, errors.New("is larger than 8 MiB, too large for a secret")
	}
	return b, nil
}

// abs returns the name of a file that the configuration names.
func (c *checker) abs(name string) string {
	if name == "" || filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(c.dir, name)
}

// reason is err without the name of the file, which the problem has already.
func reason(err error) error {
	if p, ok := errors.AsType[*os.PathError](err); ok {
		return p.Err
	}
	return err
}
