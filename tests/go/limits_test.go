package hubflight

import (
	"fmt"
	"strings"
	"testing"

	"github.com/apache/arrow-adbc/go/adbc"
	driver "github.com/apache/arrow-adbc/go/adbc/driver/flightsql"
	"github.com/apache/arrow-go/v18/arrow/flight"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// What a gRPC client of Go takes unless it is told to take more.
const messageBytesMax = 4 << 20

// A stream that remembers the sizes of its messages.
type measured struct {
	flight.FlightService_DoGetClient
	largest, total int
}

func (m *measured) Recv() (*flight.FlightData, error) {
	data, err := m.FlightService_DoGetClient.Recv()
	if err == nil {
		size := proto.Size(data)
		m.largest, m.total = max(m.largest, size), m.total+size
	}
	return data, err
}

func columns(count int) string {
	all := make([]string, count)
	for at := range all {
		all[at] = fmt.Sprintf("n + %d AS c%d", at, at)
	}
	return strings.Join(all, ", ")
}

// Wide rows, many columns, nested values, and large values among small ones.
var wide = map[string]struct {
	sql string
	// How many rows there are (0 where they are counted), and the bytes that their values have.
	rows, bytesMin int64
}{
	"wide rows":    {"SELECT repeat('x', 1000) AS t, n FROM generate_series(1, 100000) AS a(n)", 100_000, 100_000_000},
	"many columns": {"SELECT " + columns(400) + " FROM generate_series(1, 10000) AS a(n)", 10_000, 32_000_000},
	"lists":        {"SELECT array_repeat(n, 1000) AS l FROM generate_series(1, 4000) AS a(n)", 4_000, 32_000_000},
	"large values": {"SELECT repeat('x', CASE WHEN n % 100 = 0 THEN 2000000 ELSE 10 END) AS t FROM generate_series(1, 1000) AS a(n)", 1_000, 20_000_000},
	"signals":      {"SELECT * FROM cardio.ecg", 0, 1_000_000},
}

func TestAPlainClientReadsWideResultsWhole(t *testing.T) {
	signals := query(t, connect(t, "startup"), "SELECT count(*) FROM cardio.ecg")[0]
	for name, one := range wide {
		t.Run(name, func(t *testing.T) {
			client, ctx := flightClient(t, "startup")
			info := execute(t, ctx, client, one.sql)
			stream := &measured{FlightService_DoGetClient: must[flight.FlightService_DoGetClient](t)(
				flight.NewFlightServiceClient(plain(t)).DoGet(ctx, info.Endpoint[0].Ticket))}
			reader := must[*flight.Reader](t)(flight.NewRecordReader(stream))
			defer reader.Release()
			count := int64(0)
			for reader.Next() {
				count += reader.RecordBatch().NumRows()
			}
			done(t, reader.Err())
			expected := fmt.Sprint(one.rows)
			if one.rows == 0 {
				expected = signals
			}
			equal(t, fmt.Sprint(count), expected)
			if int64(stream.total) < one.bytesMin {
				t.Errorf("%d bytes came, fewer than the values have", stream.total)
			}
			if stream.largest >= messageBytesMax {
				t.Errorf("a message has %d bytes", stream.largest)
			}
		})
	}
}

// A row is not cut: one larger than what a client takes is refused by the client itself, which can ask for more.
func TestAValueLargerThanAMessageNeedsAClientThatTakesIt(t *testing.T) {
	const sql = "SELECT repeat('x', 5000000) AS t"
	client, ctx := flightClient(t, "startup")
	err := fetchError(t, ctx, client, execute(t, ctx, client, sql).Endpoint[0].Ticket)
	equal(t, status.Code(err), codes.ResourceExhausted)
	// The driver takes 16 MiB.
	equal(t, len(query(t, connect(t, "startup"), sql)[0]), 5_000_000)
	larger := connect(t, "startup", options{driver.OptionWithMaxMsgSize: fmt.Sprint(32 << 20)})
	equal(t, len(query(t, larger, "SELECT repeat('x', 16777216) AS t")[0]), 16_777_216)
}

func TestCompressedResultsAndViewsAreRead(t *testing.T) {
	const sql = "SELECT n, 'a text of more than twelve bytes ' || n AS t FROM generate_series(1, 3) AS a(n) ORDER BY n"
	expected := []string{"1|a text of more than twelve bytes 1", "2|a text of more than twelve bytes 2", "3|a text of more than twelve bytes 3"}
	for _, codec := range []string{"none", "lz4", "zstd"} {
		connection := connect(t, "startup")
		done(t, connection.(adbc.PostInitOptions).SetOption(option+"wire.compression", codec))
		equal(t, query(t, connection, sql), expected)
	}
	connection := connect(t, "startup")
	done(t, connection.(adbc.PostInitOptions).SetOption(boolean+"wire.views", adbc.OptionValueEnabled))
	result, _, err := statement(t, connection, "SELECT n, arrow_cast(t, 'Utf8View') AS t FROM ("+sql+") ORDER BY n").ExecuteQuery(within(t))
	done(t, err)
	equal(t, fields(result.Schema()), []string{"n int64", "t string_view"})
	equal(t, rows(t, result), expected)
}

func TestAStatementThatIsTooLongIsRefused(t *testing.T) {
	connection := connect(t, "startup")
	const bytesMax = 1 << 20
	of := func(length int) string {
		return "SELECT 1 AS one --" + strings.Repeat("x", length-len("SELECT 1 AS one --"))
	}
	equal(t, query(t, connection, of(bytesMax)), []string{"1"})
	refused(t, refusal(t, connection, of(bytesMax+1)), adbc.StatusInvalidArgument,
		"the statement has 1048577 bytes and at most 1048576 are allowed")
}
