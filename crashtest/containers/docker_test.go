package containers

import (
	"context"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/client"
	"github.com/stretchr/testify/require"
	"github.com/testcontainers/testcontainers-go"
	"github.com/testcontainers/testcontainers-go/wait"
)

const repository = "../.."

// requireDocker skips the test where no engine answers, and sets what testcontainers needs on a machine without a registry: its
// reaper is an image that would have to be pulled, so the tests remove their containers themselves.
func requireDocker(t *testing.T) {
	t.Helper()
	if out, err := exec.Command("docker", "info").CombinedOutput(); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("no Docker engine answers: %v\n%s", err, out)
		}
		t.Skip("no Docker engine answers")
	}
	t.Setenv("TESTCONTAINERS_RYUK_DISABLED", "true")
	t.Setenv("TESTCONTAINERS_HOST_OVERRIDE", "127.0.0.1")
}

// run starts a container and removes it at the end of the test, with its output shown where the test has failed.
func run(t *testing.T, request testcontainers.ContainerRequest) testcontainers.Container {
	t.Helper()
	request.Labels = map[string]string{"ingestor.test": t.Name()}
	c, err := testcontainers.GenericContainer(t.Context(), testcontainers.GenericContainerRequest{ContainerRequest: request, Started: true})
	if c != nil {
		t.Cleanup(func() {
			if t.Failed() {
				showLogs(t, c)
			}
			require.NoError(t, c.Terminate(context.Background(), testcontainers.StopTimeout(0)))
		})
	}
	require.NoError(t, err)
	return c
}

func showLogs(t *testing.T, c testcontainers.Container) {
	out, err := exec.Command("docker", "logs", "--tail", "50", c.GetContainerID()).CombinedOutput()
	t.Logf("container %s: %v\n%s", c.GetContainerID()[:12], err, out)
}

// freePort is a port of the loopback address that was free a moment ago. Ports are pinned because Docker would choose new ones at
// each restart.
func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	return strconv.Itoa(l.Addr().(*net.TCPAddr).Port)
}

func pin(ports map[string]string) func(*container.HostConfig) {
	return func(h *container.HostConfig) {
		h.PortBindings = network.PortMap{}
		for inside, outside := range ports {
			h.PortBindings[network.MustParsePort(inside)] = []network.PortBinding{{HostIP: netip.MustParseAddr("127.0.0.1"), HostPort: outside}}
		}
	}
}

// kill sends SIGKILL and requires that the container ended by it. Stop would send SIGTERM first, which is no crash.
func kill(t *testing.T, c testcontainers.Container) {
	t.Helper()
	dockerDo(t, "kill", "--signal", "KILL", c.GetContainerID())
	require.Equal(t, 137, exitCode(t, c))
}

// exitCode waits for the end of a container.
func exitCode(t *testing.T, c testcontainers.Container) int {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, "docker", "wait", c.GetContainerID()).Output()
	require.NoError(t, err)
	code, err := strconv.Atoi(string(out[:len(out)-1]))
	require.NoError(t, err)
	return code
}

// serverContainer is the image's server with its data on the host, where the judge can read it.
type serverContainer struct {
	testcontainers.Container
	dataDir, apiKey, address string
}

// imageUser is the user that the image runs as.
const imageUser = 65532

// serverOptions is what a test changes of the server's container.
type serverOptions struct {
	// args are added to the command line, where the last of two equal flags wins.
	args []string
	env  map[string]string
	// network is one that other containers are in; empty: Docker's own.
	network string
	// memoryBytes limits the container's memory, without swap; 0: no limit.
	memoryBytes int64
}

func startServer(t *testing.T, options serverOptions) *serverContainer {
	t.Helper()
	root, err := filepath.Abs(repository)
	require.NoError(t, err)
	dir, err := os.MkdirTemp(root, ".data-containers-*")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	secrets, data := filepath.Join(dir, "secrets"), filepath.Join(dir, "data")
	out, err := exec.Command(filepath.Join(root, "bin", "ingestion-server"), "credentials", "init", "--dir", secrets).CombinedOutput()
	require.NoError(t, err, "build the server first: make build\n%s", out)
	require.NoError(t, os.Mkdir(data, 0o755))
	for _, path := range []string{data, secrets, filepath.Join(secrets, "keys.yaml")} {
		require.NoError(t, os.Chown(path, imageUser, imageUser))
	}
	key, err := os.ReadFile(filepath.Join(secrets, "api_key"))
	require.NoError(t, err)

	grpcPort, adminPort := freePort(t), freePort(t)
	s := &serverContainer{dataDir: data, apiKey: string(key[:len(key)-1]), address: "127.0.0.1:" + grpcPort}
	s.Container = run(t, testcontainers.ContainerRequest{
		FromDockerfile: testcontainers.FromDockerfile{
			Context: root, Repo: "ingestor-test", Tag: "latest", KeepImage: true,
			BuildOptionsModifier: func(o *client.ImageBuildOptions) { o.Target = "prebuilt" },
		},
		ExposedPorts: []string{"9090/tcp", "9091/tcp"},
		Cmd: append([]string{"serve", "--data_dir=/data", "--listen.grpc=0.0.0.0:9090", "--listen.admin=0.0.0.0:9091",
			"--auth.keys_file=/secrets/keys.yaml", "--memtable.generation_age=200ms", "--wal.segment_bytes=16MiB", "--drain.timeout=2m"}, options.args...),
		Env: options.env, Networks: networks(options.network),
		HostConfigModifier: func(h *container.HostConfig) {
			pin(map[string]string{"9090/tcp": grpcPort, "9091/tcp": adminPort})(h)
			h.Binds = []string{data + ":/data", secrets + ":/secrets:ro"}
			h.ReadonlyRootfs = true
			h.CapDrop = []string{"ALL"}
			h.Memory, h.MemorySwap = options.memoryBytes, options.memoryBytes
		},
		WaitingFor: wait.ForHTTP("/-/ready").WithPort("9091/tcp").WithStartupTimeout(time.Minute),
	})
	return s
}

func networks(name string) []string {
	if name == "" {
		return nil
	}
	return []string{name}
}

// newNetwork makes a network in which containers find each other by name, whatever addresses they get at a restart.
func newNetwork(t *testing.T) string {
	t.Helper()
	name := "ingestor-test-" + freePort(t)
	dockerDo(t, "network", "create", "--label", "ingestor.test="+t.Name(), name)
	t.Cleanup(func() { dockerDo(t, "network", "rm", name) })
	return name
}

// dockerDo runs a command of the Docker client and returns what it prints.
func dockerDo(t *testing.T, args ...string) string {
	t.Helper()
	out, err := exec.Command("docker", args...).CombinedOutput()
	require.NoError(t, err, "docker %q: %s", args, out)
	return strings.TrimSpace(string(out))
}

// startAgain starts an ended container and waits until it is ready.
func startAgain(t *testing.T, c testcontainers.Container) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	require.NoError(t, c.Start(ctx))
}

// drain stops the server as `docker stop` does and requires an orderly end.
func (s *serverContainer) drain(t *testing.T) {
	t.Helper()
	dockerDo(t, "kill", "--signal", "TERM", s.GetContainerID())
	require.Equal(t, 0, exitCode(t, s))
}
