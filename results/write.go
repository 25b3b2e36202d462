package results

import (
	"errors"
	"io"
	"os"
	"path/filepath"
)

// Names of the reports beside FileName.
const (
	MarkdownName = "report.md"
	HTMLName     = "report.html"
)

// SaveReports writes dir/report.md and dir/report.html.
func (r *Result) SaveReports(dir string) error {
	return errors.Join(
		saveReport(filepath.Join(dir, MarkdownName), r, WriteMarkdown),
		saveReport(filepath.Join(dir, HTMLName), r, WriteHTML),
	)
}

func saveReport(path string, r *Result, write func(io.Writer, *Result) error) (err error) {
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	return write(file, r)
}
