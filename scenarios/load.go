package scenarios

import (
	"bytes"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/santhosh-tekuri/jsonschema/v6/kind"
	"golang.org/x/text/language"
	"golang.org/x/text/message"

	"github.com/ingestor-project/ingestor/loadgen/engine"
	"github.com/ingestor-project/ingestor/results"
)

//go:embed *.yaml hot/*.yaml sustained/*.yaml recordings
var shipped embed.FS

//go:embed schema.json
var schemaText []byte

// SchemaVersion is the version of the format, as schema.json states it, and the only one that is read.
const SchemaVersion = 1

// SchemaText is schema.json. The caller must not change it.
func SchemaText() []byte { return schemaText }

var schema = compileSchema()

const schemaURL = "scenario.json"

func compileSchema() *jsonschema.Schema {
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(schemaText))
	if err != nil {
		panic("scenarios: schema.json: " + err.Error())
	}
	compiler := jsonschema.NewCompiler()
	if err := compiler.AddResource(schemaURL, document); err != nil {
		panic("scenarios: schema.json: " + err.Error())
	}
	return compiler.MustCompile(schemaURL)
}

// Problem is one thing that is wrong with a scenario's file.
type Problem struct {
	File string
	// Line counts from 1.
	Line    int
	Message string
}

func (p Problem) String() string { return fmt.Sprintf("%s:%d: %s", p.File, p.Line, p.Message) }

// InvalidError lists all problems of a file, in the order of their lines.
type InvalidError struct{ Problems []Problem }

func (e *InvalidError) Error() string {
	lines := make([]string, len(e.Problems))
	for i, problem := range e.Problems {
		lines[i] = problem.String()
	}
	return strings.Join(lines, "\n")
}

// Shipped loads the scenario of that name that is part of the program, from any set.
func Shipped(name string) (*Scenario, error) {
	file := path.Join(directoryOf(name), name+".yaml")
	return load(shipped, file, "scenarios/"+file)
}

// LoadFile loads a scenario's file, or the shipped scenario of that name where reference is a bare name.
func LoadFile(reference string) (*Scenario, error) {
	if slices.Contains(allNames(), reference) {
		return Shipped(reference)
	}
	directory, name := filepath.Split(reference)
	if directory == "" {
		directory = "."
	}
	return load(os.DirFS(directory), name, reference)
}

// load reads and checks one file. The error is an *InvalidError where the file could be read.
func load(files fs.FS, name, shown string) (*Scenario, error) {
	content, err := fs.ReadFile(files, name)
	if errors.Is(err, fs.ErrNotExist) && path.Ext(name) == "" {
		return nil, fmt.Errorf("scenario %s: %w, and none that ships with the program has this name%s", shown, err, suggestion(name, allNames()))
	}
	if err != nil {
		return nil, fmt.Errorf("scenario %s: %w", shown, err)
	}
	document := &document{file: shown}
	root, err := parser.ParseBytes(content, 0)
	if err != nil {
		return nil, syntaxError(shown, err)
	}
	if len(root.Docs) != 1 || root.Docs[0].Body == nil {
		return nil, &InvalidError{[]Problem{{shown, 1, "must hold one YAML document, and not an empty one"}}}
	}
	document.root = root.Docs[0].Body
	if err := document.checkSchema(content); err != nil {
		return nil, err
	}
	scenario := &Scenario{File: shown, files: files}
	if len(document.problems) == 0 {
		if err := yaml.UnmarshalWithOptions(content, scenario, yaml.Strict()); err != nil {
			return nil, syntaxError(shown, err)
		}
		scenario.setDefaults()
		document.checkMeaning(scenario, strings.TrimSuffix(path.Base(name), ".yaml"))
	}
	if len(document.problems) > 0 {
		slices.SortStableFunc(document.problems, func(a, b Problem) int { return a.Line - b.Line })
		return nil, &InvalidError{document.problems}
	}
	return scenario, nil
}

// syntaxError takes the line from the YAML package's error, which prints as "[line:column] message" and an excerpt.
func syntaxError(file string, err error) error {
	line, text := 1, err.Error()
	var column int
	if _, scanErr := fmt.Sscanf(text, "[%d:%d]", &line, &column); scanErr == nil {
		_, text, _ = strings.Cut(text, "] ")
	}
	text, _, _ = strings.Cut(text, "\n")
	return &InvalidError{[]Problem{{file, line, text}}}
}

// document is a file under examination.
type document struct {
	file     string
	root     ast.Node
	problems []Problem
}

func (d *document) report(location []string, format string, args ...any) {
	d.problems = append(d.problems, Problem{d.file, lineOf(d.root, location), fmt.Sprintf(format, args...)})
}

// checkSchema notes every violation of schema.json.
func (d *document) checkSchema(content []byte) error {
	var value any
	if err := yaml.Unmarshal(content, &value); err != nil {
		return syntaxError(d.file, err)
	}
	// Through JSON, so that the validator sees JSON's types.
	encoded, err := json.Marshal(value)
	if err != nil {
		return &InvalidError{[]Problem{{d.file, 1, err.Error()}}}
	}
	instance, err := jsonschema.UnmarshalJSON(bytes.NewReader(encoded))
	if err != nil {
		return err
	}
	err = schema.Validate(instance)
	var violation *jsonschema.ValidationError
	if errors.As(err, &violation) {
		d.addViolation(violation)
		return nil
	}
	return err
}

// addViolation notes the leaves of the validator's tree of reasons.
func (d *document) addViolation(violation *jsonschema.ValidationError) {
	switch reason := violation.ErrorKind.(type) {
	case *kind.AdditionalProperties:
		for _, key := range reason.Properties {
			where := append(slices.Clone(violation.InstanceLocation), key)
			d.report(where, "unknown key %q%s", key, suggestion(key, knownKeys(violation.SchemaURL)))
		}
		return
	case *kind.AnyOf:
		d.report(violation.InstanceLocation, "%s must be a number or a duration", pathWords(violation.InstanceLocation))
		return
	case *kind.Enum:
		var names []string
		for _, want := range reason.Want {
			names = append(names, fmt.Sprint(want))
		}
		got := fmt.Sprint(reason.Got)
		d.report(violation.InstanceLocation, "%s is %q, must be one of %s%s", pathWords(violation.InstanceLocation),
			got, strings.Join(names, ", "), suggestion(got, names))
		return
	case *kind.Const:
		d.report(violation.InstanceLocation, "%s is %v, this program reads %v", pathWords(violation.InstanceLocation), reason.Got, reason.Want)
		return
	}
	if len(violation.Causes) == 0 {
		text := violation.ErrorKind.LocalizedString(message.NewPrinter(language.English))
		d.report(violation.InstanceLocation, "%s: %s", pathWords(violation.InstanceLocation), text)
		return
	}
	for _, cause := range violation.Causes {
		d.addViolation(cause)
	}
}

// knownKeys returns the properties of the schema object at url, "scenario.json#/$defs/load" for example.
func knownKeys(url string) []string {
	var node any
	if json.Unmarshal(schemaText, &node) != nil {
		return nil
	}
	_, pointer, _ := strings.Cut(url, "#")
	for _, step := range strings.Split(strings.Trim(pointer, "/"), "/") {
		if object, ok := node.(map[string]any); ok && step != "" {
			node = object[step]
		}
	}
	object, _ := node.(map[string]any)
	properties, _ := object["properties"].(map[string]any)
	var keys []string
	for key := range properties {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}

func pathWords(location []string) string {
	if len(location) == 0 {
		return "the scenario"
	}
	return strings.Join(location, ".")
}

// checkMeaning notes what the schema cannot see.
func (d *document) checkMeaning(s *Scenario, fileName string) {
	if s.Name != fileName {
		d.report([]string{"name"}, "name is %q, the file is %s.yaml", s.Name, fileName)
	}
	for i, objective := range s.Objectives {
		at := func(key string) []string { return []string{"objectives", fmt.Sprint(i), key} }
		metric, ok := results.LookUp(objective.Metric)
		if !ok {
			d.report(at("metric"), "unknown metric %q%s", objective.Metric, suggestion(objective.Metric, results.MetricNames()))
			continue
		}
		if objective.Unit != "" && objective.Unit != metric.Unit {
			d.report(at("unit"), "the unit of %s is %q", metric.Name, metric.Unit)
		}
		s.Objectives[i].Unit = metric.Unit
		for _, kind := range metric.Ceilings {
			if !slices.Contains(s.Ceilings, kind) {
				d.report(at("metric"), "%s needs %s among the ceilings", metric.Name, kind)
			}
		}
		if objective.Compare != "" && objective.Target == "" {
			d.report(at("compare"), "compare stands in the table of targets, so it needs target")
		}
	}
	d.checkLoad(s)
	d.checkNeighbour(s)
	d.checkVariants(s)
	d.checkCeilings(s)
	d.checkActions(s.Actions)
}

func (d *document) checkLoad(s *Scenario) {
	if s.Load.Replay != nil {
		if _, err := fs.Stat(s.files, filepath.ToSlash(s.Load.Replay.File)); err != nil {
			d.report([]string{"load", "replay", "file"}, "%v", err)
		}
		if s.Load.Client != "live" {
			d.report([]string{"load"}, "a replay needs client: live")
		}
		return
	}
	measured := slices.ContainsFunc(s.Load.Phases, func(p Phase) bool { return !p.WarmUp })
	if !measured {
		d.report([]string{"load"}, "no phase is measured: list at least one under phases that is not warm_up")
		return
	}
	config := s.Load.EngineConfig()
	config.Target = "checked without one"
	if err := config.Validate(); err != nil {
		d.report([]string{"load"}, "%s", strings.ReplaceAll(err.Error(), "\n", "; "))
	}
}

func (d *document) checkCeilings(s *Scenario) {
	for i, kind := range s.Ceilings {
		at := []string{"ceilings", fmt.Sprint(i)}
		switch {
		case kind == results.ReadLog:
			if !s.FlushedLater() {
				d.report(at, "read_log needs a log that is replayed after the load: end: kill, or server.processor.paused")
			}
		case kind != results.RawDisk && (s.Load.Method == engine.Metrics || s.Load.Replay != nil):
			d.report(at, "%s needs a load of synthetic records", kind)
		case kind == results.EmptyHandler && s.Load.Method != engine.Unary:
			d.report(at, "empty_handler needs load.method: unary")
		case kind == results.SinglePair && s.Load.Tenants*s.Load.Endpoints == 1:
			d.report(at, "single_pair has a meaning only for a load of several tenants or endpoints")
		}
	}
	if len(s.Ceilings) > 0 && s.CeilingLength() <= 0 {
		d.report([]string{"ceilings"}, "the measured phases have no duration, so ceiling_duration must be given")
	}
	if s.Validity.MaxOfferedRatio != nil && (s.Load.OfferedRate() == 0 || !slices.Contains(s.Ceilings, results.NullSink)) {
		d.report([]string{"validity", "max_offered_ratio"}, "max_offered_ratio needs an open loop, and null_sink among the ceilings")
	}
}

// checkActions walks through the states of the server: it must run to be killed or drained, and must not to be restarted.
func (d *document) checkActions(actions []Action) {
	running := true
	for i, action := range actions {
		at := []string{"actions", fmt.Sprint(i)}
		if i > 0 && action.At < actions[i-1].At {
			d.report(append(at, "at"), "actions must be in the order of their times")
		}
		if stops := action.Do != Restart; stops != running {
			d.report(append(at, "do"), "%s is not possible here: the server is %s", action.Do, map[bool]string{true: "running", false: "stopped"}[running])
			return
		}
		running = action.Do == Restart
	}
	if !running {
		d.report([]string{"actions"}, "the last action leaves the server stopped; add a restart")
	}
}
