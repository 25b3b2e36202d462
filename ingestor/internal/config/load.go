package config

import (
	"bytes"
	"encoding"
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/spf13/pflag"
)

// EnvPrefix starts the name of every environment variable that is a setting.
const EnvPrefix = "INGESTOR_"

// Setting is one field of a configuration struct.
type Setting struct {
	Path  string // "wal.segment_bytes"
	Help  string
	value reflect.Value
}

// EnvName is the environment variable of the setting.
func (s Setting) EnvName() string {
	return EnvPrefix + strings.ToUpper(strings.ReplaceAll(s.Path, ".", "_"))
}

// Settings lists the fields of the struct that target points to, in their order.
func Settings(target any) []Setting {
	return collect(nil, "", reflect.ValueOf(target).Elem())
}

func collect(list []Setting, prefix string, v reflect.Value) []Setting {
	for i := range v.NumField() {
		field := v.Type().Field(i)
		path, _, _ := strings.Cut(field.Tag.Get("yaml"), ",")
		if path == "" {
			panic(fmt.Sprintf("config: field %s of %s has no yaml tag", field.Name, v.Type()))
		}
		if prefix != "" {
			path = prefix + "." + path
		}
		if field.Type.Kind() == reflect.Struct {
			list = collect(list, path, v.Field(i))
			continue
		}
		list = append(list, Setting{Path: path, Help: field.Tag.Get("help"), value: v.Field(i)})
	}
	return list
}

// LoadFile reads YAML into target. Keys that target does not have, and keys given twice, are errors that name the line.
func LoadFile(target any, path string) error {
	content, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("read the configuration: %w", err)
	}
	err = yaml.NewDecoder(bytes.NewReader(content), yaml.Strict()).Decode(target)
	if err != nil && !errors.Is(err, io.EOF) { // io.EOF: an empty file, all defaults
		return fmt.Errorf("configuration file %s: %s", path, yaml.FormatError(err, false, true))
	}
	return nil
}

// LoadEnv applies variables ("NAME=value", as from os.Environ) to target. A variable that starts like a section of target
// (INGESTOR_WAL_…) but names no setting is an error.
func LoadEnv(target any, environ []string) error {
	settings := Settings(target)
	var problems []error
	for _, variable := range environ {
		name, value, _ := strings.Cut(variable, "=")
		if !strings.HasPrefix(name, EnvPrefix) {
			continue
		}
		i := slices.IndexFunc(settings, func(s Setting) bool { return s.EnvName() == name })
		switch {
		case i >= 0:
			if err := settings[i].set(value); err != nil {
				problems = append(problems, fmt.Errorf("environment variable %s: %w", name, err))
			}
		case inSection(settings, name):
			problems = append(problems, fmt.Errorf("environment variable %s names no setting", name))
		}
	}
	return errors.Join(problems...)
}

func inSection(settings []Setting, envName string) bool {
	return slices.ContainsFunc(settings, func(s Setting) bool {
		section, _, nested := strings.Cut(s.Path, ".")
		return nested && strings.HasPrefix(envName, EnvPrefix+strings.ToUpper(section)+"_")
	})
}

// Flags holds the values of flags until Apply: they are read before the file and win over it.
type Flags struct {
	given []*flagValue
}

type flagValue struct {
	path, text string
	kind       string
	changed    bool
}

func (f *flagValue) String() string { return f.text }
func (f *flagValue) Type() string   { return f.kind }
func (f *flagValue) Set(text string) error {
	f.text, f.changed = text, true
	return nil
}

// RegisterFlags adds a flag for each setting of target, which gives the defaults that the help shows.
func RegisterFlags(set *pflag.FlagSet, target any) *Flags {
	flags := &Flags{}
	for _, s := range Settings(target) {
		value := &flagValue{path: s.Path, text: s.String(), kind: s.kind()}
		flags.given = append(flags.given, value)
		flag := set.VarPF(value, s.Path, "", s.Help+" ["+s.EnvName()+"]")
		if s.value.Kind() == reflect.Bool {
			flag.NoOptDefVal = "true"
		}
	}
	return flags
}

// Apply sets what was given on the command line.
func (f *Flags) Apply(target any) error {
	settings := Settings(target)
	var problems []error
	for i, given := range f.given {
		if given.changed {
			if err := settings[i].set(given.text); err != nil {
				problems = append(problems, fmt.Errorf("flag --%s: %w", given.path, err))
			}
		}
	}
	return errors.Join(problems...)
}

// String is the setting's value as text, masked where it is secret.
func (s Setting) String() string {
	if list, ok := s.value.Interface().([]string); ok {
		return strings.Join(list, ",")
	}
	return fmt.Sprint(s.value.Interface())
}

func (s Setting) kind() string {
	switch s.value.Interface().(type) {
	case time.Duration:
		return "duration"
	case ByteSize:
		return "size"
	case []string:
		return "list"
	}
	return s.value.Kind().String()
}

func (s Setting) set(text string) error {
	if u, ok := s.value.Addr().Interface().(encoding.TextUnmarshaler); ok {
		return u.UnmarshalText([]byte(text))
	}
	var err error
	switch target := s.value.Addr().Interface().(type) {
	case *string:
		*target = text
	case *bool:
		*target, err = strconv.ParseBool(text)
	case *int:
		*target, err = strconv.Atoi(text)
	case *float64:
		*target, err = strconv.ParseFloat(text, 64)
	case *time.Duration:
		*target, err = time.ParseDuration(text)
	case *[]string:
		*target = nil
		if text != "" {
			*target = strings.Split(text, ",")
		}
	default:
		panic(fmt.Sprintf("config: setting %s has the unsupported type %s", s.Path, s.value.Type()))
	}
	if err != nil {
		return fmt.Errorf("%q is not a %s", text, s.kind())
	}
	return nil
}

// Print writes the effective configuration as YAML, secrets masked.
func Print(w io.Writer, target any) error {
	if err := yaml.NewEncoder(w, yaml.UseLiteralStyleIfMultiline(true)).Encode(target); err != nil {
		return fmt.Errorf("print the configuration: %w", err)
	}
	return nil
}
