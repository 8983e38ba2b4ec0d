package hubflight

// What is cancelled, released, closed or too late ends in the server too.

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow-adbc/go/adbc"
	driver "github.com/apache/arrow-adbc/go/adbc/driver/flightsql"
	"github.com/apache/arrow-go/v18/arrow/memory"
)

const (
	// Never ends by itself in the time of a test.
	slow    = "SELECT count(*) FROM generate_series(1, 100000000000) AS a(n) WHERE n % 7 = 3"
	tooLong = "the statement took longer than it may; select less, or raise `statement_seconds`"
)

// A tag of a test's own, by which its statements are found again.
func tagged(t *testing.T, connection adbc.Connection) string {
	t.Helper()
	tag := fmt.Sprintf("%s %d", t.Name(), time.Now().UnixNano())
	done(t, connection.(adbc.PostInitOptions).SetOption(driver.OptionSessionOptionPrefix+"tags", tag))
	return tag
}

// How many tagged statements have ended in a way, once they have all ended.
func ended(t *testing.T, tag, way string) string {
	t.Helper()
	connection := connect(t, "researcher")
	from := fmt.Sprintf(`FROM hub.queries WHERE tags = '{"tags":"%s"}'`, tag)
	for deadline := time.Now().Add(5 * time.Second); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		counted := query(t, connection, "SELECT count(*), count(*) FILTER (WHERE state IN ('open', 'running')) "+from)[0]
		if counted == "1|0" {
			return query(t, connection, "SELECT count(*) "+from+" AND "+way)[0]
		}
	}
	t.Fatal("the statement goes on")
	return ""
}

func TestACancelledContextStopsTheQuery(t *testing.T) {
	connection := connect(t, "researcher")
	tag := tagged(t, connection)
	ctx, cancel := context.WithCancel(within(t))
	reader, _, err := statement(t, connection, slow).ExecuteQuery(ctx)
	done(t, err)
	defer reader.Release()
	time.AfterFunc(300*time.Millisecond, cancel)
	equal(t, reader.Next(), false)
	refused(t, reader.Err(), adbc.StatusCancelled, "context canceled")
	equal(t, ended(t, tag, "state = 'cancelled'"), "1")
}

// Client and server watch the same deadline, and in the server the transport does too; either may be the first to tell.
func timedOut(t *testing.T, err error) {
	t.Helper()
	text := "context deadline exceeded"
	// The server's own words may come before the client looks at its clock.
	late := "the call took longer than its client waits; what changes something may have done so, look before you repeat it"
	for _, other := range []string{tooLong, "Timeout expired", late} {
		if strings.Contains(fmt.Sprint(err), other) {
			text = other
		}
	}
	refused(t, err, adbc.StatusTimeout, text)
}

func TestTheDriversTimeoutStopsTheQuery(t *testing.T) {
	connection := connect(t, "researcher")
	tag := tagged(t, connection)
	made := statement(t, connection, slow)
	done(t, made.SetOption(driver.OptionTimeoutFetch, "0.5"))
	reader, _, err := made.ExecuteQuery(within(t))
	done(t, err)
	defer reader.Release()
	equal(t, reader.Next(), false)
	timedOut(t, reader.Err())
	equal(t, ended(t, tag, "(state = 'cancelled' OR error_kind = 'deadline_exceeded')"), "1")
}

func TestTheServersTimeoutStopsTheQuery(t *testing.T) {
	connection := connect(t, "researcher")
	done(t, connection.(adbc.GetSetOptions).SetOptionInt(driver.OptionSessionOptionPrefix+"statement_seconds", 1))
	tag := tagged(t, connection)
	refused(t, refusal(t, connection, slow), adbc.StatusTimeout, tooLong)
	equal(t, ended(t, tag, "state = 'error' AND error_kind = 'deadline_exceeded'"), "1")
}

func TestAReaderThatIsReleasedStopsTheQuery(t *testing.T) {
	connection := connect(t, "researcher")
	tag := tagged(t, connection)
	endless := "SELECT repeat('x', 1000) AS t FROM generate_series(1, 100000000)"
	reader, _, err := statement(t, connection, endless).ExecuteQuery(within(t))
	done(t, err)
	equal(t, reader.Next(), true)
	reader.Release()
	equal(t, ended(t, tag, "state = 'cancelled'"), "1")
}

func TestAConnectionThatIsClosedStopsTheQuery(t *testing.T) {
	database := must[adbc.Database](t)(driver.NewDriver(memory.DefaultAllocator).NewDatabase(
		of("researcher", options{adbc.OptionKeyURI: "grpc://" + address})))
	connection := must[adbc.Connection](t)(database.Open(within(t)))
	tag := tagged(t, connection)
	reader, _, err := statement(t, connection, slow).ExecuteQuery(within(t))
	done(t, err)
	defer reader.Release()
	time.Sleep(300 * time.Millisecond)
	done(t, connection.Close())
	equal(t, reader.Next(), false)
	equal(t, ended(t, tag, "state = 'cancelled'"), "1")
}
