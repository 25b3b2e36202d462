// Command crashlayers lists the packages that have crash tests, one a line: module, package and the pattern for `go test -run`, with tabs
// between them. With -whole it
// lists only the directories that are run whole, which unit tests leave out.
package main

import (
	"flag"
	"fmt"
	"os"

	"github.com/ingestor-project/ingestor/internal/crashlayers"
)

func main() {
	whole := flag.Bool("whole", false, "only the directories whose tests are all run as crash tests")
	flag.Parse()
	packages, err := crashlayers.Find(".")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	for i := range packages {
		p := &packages[i]
		switch {
		case !*whole:
			fmt.Printf("%s\t%s\t%s\n", p.Module, p.Path, p.Pattern())
		case p.Whole:
			fmt.Println(p.Dir())
		}
	}
}
