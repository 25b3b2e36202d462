package containers

import (
	"testing"

	"github.com/ingestor-project/ingestor/internal/crashlevel"
)

// TestKilledContainersLoseNothing kills the server's container and the database's in turn, and sometimes the server's while the database is
// away, so that it starts without.
func TestKilledContainersLoseNothing(t *testing.T) {
	run := crashlevel.Start(t, "container kills", "kills", packagePath)
	requireDocker(t)
	network := newNetwork(t)
	database := startDatabase(t, network, nil)
	s := startServer(t, serverOptions{network: network, args: []string{"--timescale.dsn=" + database.insideDSN}})
	c := newClients(t, run, s, recordsPerSecond)
	const inRound = 20
	pairs := crashlevel.Pick(t, 1, 5, 200)
	for done := 0; done < pairs; {
		if done > 0 {
			startAgain(t, s)
		}
		n := min(inRound, pairs-done)
		c.during(func() {
			for range n {
				c.work(20)
				kill(t, s)
				startAgain(t, s)
				c.work(20)
				kill(t, database)
				run.Explored(2)
				if c.rng.IntN(3) == 0 {
					c.work(1)
					kill(t, s)
					startAgain(t, s)
					run.Explored(1)
				}
				c.work(20) // without a database
				startAgain(t, database)
			}
			c.work(20)
		})
		c.judge(database.dsn)
		done += n
	}
	t.Logf("%d batches acked, %d sent again", c.acked, c.sentMore)
}
