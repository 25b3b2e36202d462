package scenarios

import (
	"strconv"

	"github.com/goccy/go-yaml/ast"
)

// lineOf returns the line of the node at location (keys and indexes from the root), or that of the deepest node on the way
// that exists.
func lineOf(root ast.Node, location []string) int {
	node, line := root, root.GetToken().Position.Line
	for _, step := range location {
		next, keyLine := child(node, step)
		if next == nil {
			return line
		}
		node, line = next, keyLine
	}
	return line
}

// child returns the value below a key or an index, and the line on which it begins; for a mapping that is the key's.
func child(node ast.Node, step string) (ast.Node, int) {
	switch n := node.(type) {
	case *ast.MappingNode:
		for _, pair := range n.Values {
			if pair.Key.GetToken().Value == step {
				return pair.Value, pair.Key.GetToken().Position.Line
			}
		}
	case *ast.MappingValueNode:
		if n.Key.GetToken().Value == step {
			return n.Value, n.Key.GetToken().Position.Line
		}
	case *ast.SequenceNode:
		i, err := strconv.Atoi(step)
		if err == nil && i >= 0 && i < len(n.Values) {
			return n.Values[i], firstLine(n.Values[i])
		}
	}
	return nil, 0
}

// firstLine is the line of a node's first token. A mapping's own token is a colon, or the brace of a flow mapping.
func firstLine(node ast.Node) int {
	switch n := node.(type) {
	case *ast.MappingNode:
		if len(n.Values) > 0 {
			return n.Values[0].Key.GetToken().Position.Line
		}
	case *ast.MappingValueNode:
		return n.Key.GetToken().Position.Line
	}
	return node.GetToken().Position.Line
}

// suggestion is `; did you mean "x"?` for the known name nearest to an unknown one, or empty where none is near.
func suggestion(unknown string, known []string) string {
	best, bestDistance := "", max(1, len(unknown)/3)+1
	for _, name := range known {
		if distance := editDistance(unknown, name); distance < bestDistance {
			best, bestDistance = name, distance
		}
	}
	if best == "" {
		return ""
	}
	return "; did you mean " + strconv.Quote(best) + "?"
}

// editDistance is the number of bytes to insert, delete or replace to turn a into b.
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			substitute := diagonal
			if a[i] != b[j] {
				substitute++
			}
			diagonal = row[j+1]
			row[j+1] = min(substitute, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
