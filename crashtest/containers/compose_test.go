package containers

import (
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/compose-spec/compose-go/v2/types"
	"github.com/stretchr/testify/require"
)

func loadCompose(t *testing.T, files ...string) *types.Project {
	t.Helper()
	for i := range files {
		files[i] = filepath.Join(repository, files[i])
	}
	options, err := cli.NewProjectOptions(files, cli.WithWorkingDirectory(repository), cli.WithName("ingestor"))
	require.NoError(t, err)
	project, err := options.LoadProject(t.Context())
	require.NoError(t, err)
	return project
}

func TestComposeStartsTimescaleDBAndTheServer(t *testing.T) {
	project := loadCompose(t, "docker-compose.yml")
	require.ElementsMatch(t, []string{"credentials", "timescaledb", "server"}, project.ServiceNames())
	server := project.Services["server"]
	require.Contains(t, server.DependsOn, "timescaledb")
	require.True(t, server.ReadOnly)
	for _, service := range project.Services {
		for _, port := range service.Ports {
			require.Equal(t, "127.0.0.1", port.HostIP, "nothing is published beyond the loopback address")
		}
		for name, value := range service.Environment {
			require.NotContains(t, name, "PASSWORD=", value)
			if name == "POSTGRES_PASSWORD" {
				t.Error("a password stands in the compose file")
			}
		}
	}
}

// TestComposeCommandIsOneTheServerTakes makes the secrets with the command that the compose file gives for them, and has the server's own check read
// them with the flags that the compose file gives the server.
func TestComposeCommandIsOneTheServerTakes(t *testing.T) {
	project := loadCompose(t, "docker-compose.yml")
	binary := filepath.Join(repository, "bin", "ingestion-server")
	secrets := filepath.Join(t.TempDir(), "secrets")
	inTemp := func(command types.ShellCommand) []string {
		args := slices.Clone([]string(command))
		for i := range args {
			args[i] = strings.ReplaceAll(args[i], "/secrets", secrets)
		}
		return args
	}
	out, err := exec.Command(binary, inTemp(project.Services["credentials"].Command)...).CombinedOutput()
	require.NoError(t, err, "build the server first: make build\n%s", out)

	serve := inTemp(project.Services["server"].Command)
	require.Equal(t, "serve", serve[0])
	args := slices.Concat([]string{"config", "check"}, serve[1:])
	out, err = exec.Command(binary, args...).CombinedOutput()
	require.NoError(t, err, string(out))

	out, err = exec.Command(binary, append(args, "--no-such-flag")...).CombinedOutput()
	require.Error(t, err, string(out))
}

func TestComposeWithObservability(t *testing.T) {
	project := loadCompose(t, "docker-compose.yml", "deploy/compose.observability.yml")
	require.Contains(t, project.ServiceNames(), "prometheus")
	require.Contains(t, project.ServiceNames(), "grafana")
}
