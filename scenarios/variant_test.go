package scenarios

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestVariantsRunWithTheirSettingsAndTheFirstTwice(t *testing.T) {
	scenario, err := loadText(t, valid+`server: {wal: {direct_io: "on", spare_segments: 2}}
variants:
  - name: direct
  - {name: cached, server: {wal: {direct_io: "off"}, log: {level: warn}}}
`)
	require.NoError(t, err)
	list := scenario.Variations()
	require.Len(t, list, 3)
	require.Equal(t, []string{"mine/direct", "mine/cached", "mine/again"}, []string{list[0].Name, list[1].Name, list[2].Name})
	require.Equal(t, map[string]any{"wal": map[string]any{"direct_io": "on", "spare_segments": uint64(2)}}, list[0].Server)
	require.Equal(t, map[string]any{
		"wal": map[string]any{"direct_io": "off", "spare_segments": uint64(2)}, "log": map[string]any{"level": "warn"},
	}, list[1].Server)
	require.Equal(t, list[0].Server, list[2].Server)
	require.NotEmpty(t, list[1].Objectives)
	require.Empty(t, list[2].Objectives)
	require.Equal(t, "on", scenario.Server["wal"].(map[string]any)["direct_io"], "the scenario is used again")
	require.Equal(t, list[0].LoadSHA256(), list[1].LoadSHA256())
	require.Equal(t, []*Scenario{list[0]}, list[0].Variations(), "a variation has no further ones")
}

func TestVariantNames(t *testing.T) {
	for _, test := range []struct{ variants, want string }{
		{"variants: [{name: a}, {name: a}]\n", `mine.yaml:10: there is another variant "a"`},
		{"variants: [{name: a}, {name: again}]\n", `mine.yaml:10: "again" is what the first variant is called`},
		{"variants: [{name: a}]\n", "mine.yaml:10: variants"},
		{"variants: [{name: a}, {name: b, sever: {}}]\n", `unknown key "sever"; did you mean "server"?`},
	} {
		_, err := loadText(t, valid+test.variants)
		require.ErrorContains(t, err, test.want)
	}
}
