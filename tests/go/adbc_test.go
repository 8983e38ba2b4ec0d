package hubflight

import (
	"fmt"
	"sync"
	"testing"

	"github.com/apache/arrow-adbc/go/adbc"
	driver "github.com/apache/arrow-adbc/go/adbc/driver/flightsql"
	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"google.golang.org/grpc/metadata"
)

const (
	catalogOf = driver.OptionRPCCallHeaderPrefix + "catalog"
	noLogin   = "the user, password or token is not valid, or no longer; log in again"
)

// --- who connects ---

func TestAPasswordOrABearerTokenConnects(t *testing.T) {
	_, ctx := flightClient(t, "researcher")
	sent, _ := metadata.FromOutgoingContext(ctx)
	bearer := sent.Get("authorization")[0]
	for name, with := range map[string]options{
		"password": of("researcher"),
		"bearer":   {driver.OptionAuthorizationHeader: bearer},
	} {
		t.Run(name, func(t *testing.T) {
			connection := must[adbc.Connection](t)(open(t, with))
			equal(t, query(t, connection, "SELECT 42 AS a, 'é' AS b, CAST(NULL AS INT) AS c"), []string{"42|é|(null)"})
		})
	}
}

func TestAWrongPasswordIsRefused(t *testing.T) {
	// Of an account that is used for little else: a name is locked after some failures.
	_, err := open(t, of("visitor", options{adbc.OptionKeyPassword: "hospital-demo"}))
	refused(t, err, adbc.StatusUnauthenticated, noLogin)
	_, err = open(t, of("nobody"))
	refused(t, err, adbc.StatusUnauthenticated, noLogin)
}

// The driver opens a connection without asking whether its token is good.
func TestAWrongTokenIsRefusedAtTheFirstStatement(t *testing.T) {
	connection := must[adbc.Connection](t)(open(t, options{driver.OptionAuthorizationHeader: "Bearer nonsense"}))
	refused(t, refusal(t, connection, "SELECT 1"), adbc.StatusUnauthenticated, noLogin)
}

func TestTheProjectIsChosenByAHeader(t *testing.T) {
	refused(t, refusal(t, connect(t, "consultant"), "SELECT 1"), adbc.StatusInvalidArgument,
		"choose a project with the session option or header `catalog`; yours: `ecg_ai`, `readmission`")
	connection := connect(t, "consultant", options{catalogOf: "ecg_ai"})
	equal(t, query(t, connection, "SELECT DISTINCT table_catalog FROM information_schema.tables WHERE table_schema = 'cardio'"),
		[]string{"ecg_ai"})
}

func TestAnotherProjectIsRefused(t *testing.T) {
	refused(t, refusal(t, connect(t, "researcher", options{catalogOf: "linked"}), "SELECT 1"), adbc.StatusNotFound,
		"catalog `linked` does not exist or is not yours; yours: `readmission`")
	connection := connect(t, "researcher")
	for _, table := range []string{"linked.snds.ir_ben_r", "nothing.snds.ir_ben_r", "cardio.ecg", "nothing.there"} {
		refused(t, refusal(t, connection, "SELECT * FROM "+table), adbc.StatusNotFound,
			"table `"+table+"` does not exist in project `readmission`; `SHOW TABLES` lists what there is")
	}
}

func TestRowsAreRefusedWhereOnlyAggregatesAreAllowed(t *testing.T) {
	refused(t, refusal(t, connect(t, "epidemiologist"), "SELECT ben_idt FROM snds.t_mco_b"), adbc.StatusUnauthorized,
		"the project may see only aggregates of dataset `snds`: ask for count(*), count(DISTINCT identifier), sum or avg, with or without GROUP BY")
}

// --- queries ---

func TestAResultHasTheAnnouncedTypes(t *testing.T) {
	const sql = "SELECT n, n % 2 = 0 AS even, CAST(n AS DECIMAL(12,2)) AS d, DATE '2020-02-29' AS day, [n, n + 1] AS list " +
		"FROM generate_series(1, 3) AS a(n) ORDER BY n"
	connection := connect(t, "researcher")
	types := []string{"n int64", "even bool", "d decimal(12, 2)", "day date32", "list list<item: int64, nullable>"}
	told := must[*arrow.Schema](t)(statement(t, connection, sql).(adbc.StatementExecuteSchema).ExecuteSchema(within(t)))
	equal(t, fields(told), types)
	reader, count, err := statement(t, connection, sql).ExecuteQuery(within(t))
	done(t, err)
	equal(t, count, int64(-1))
	equal(t, fields(reader.Schema()), types)
	equal(t, rows(t, reader), []string{"1|false|1|2020-02-29|[1,2]", "2|true|2|2020-02-29|[2,3]", "3|false|3|2020-02-29|[3,4]"})
}

func TestAResultOfNoRowsHasItsSchema(t *testing.T) {
	reader, _, err := statement(t, connect(t, "researcher"), "SELECT 1 AS a, 'x' AS b WHERE false").ExecuteQuery(within(t))
	done(t, err)
	equal(t, fields(reader.Schema()), []string{"a int64", "b utf8"})
	equal(t, rows(t, reader), []string{})
}

func TestErrorsTellWhatWasWrong(t *testing.T) {
	connection := connect(t, "researcher")
	for sql, text := range map[string]string{
		"SELEC 1":                 "SQL: sql parser error: Expected: an SQL statement, found: SELEC at Line: 1, Column: 1",
		"SELECT 1 / 0":            "division by zero",
		"SELECT CAST('a' AS INT)": "Cannot cast string 'a' to value of Int32 type",
	} {
		refused(t, refusal(t, connection, sql), adbc.StatusInvalidArgument, text)
	}
	equal(t, query(t, connection, "SELECT 1"), []string{"1"})
}

func TestPartitionsAreReadByOtherConnectionsOfTheSameAccount(t *testing.T) {
	const sql = "SELECT n FROM generate_series(1, 5) AS a(n) ORDER BY n"
	made := statement(t, connect(t, "researcher"), sql)
	schema, partitions, count, err := made.ExecutePartitions(within(t))
	done(t, err)
	equal(t, fields(schema), []string{"n int64"})
	equal(t, partitions.NumPartitions, uint64(1))
	equal(t, count, int64(-1))
	other := connect(t, "researcher")
	read := must[array.RecordReader](t)(other.ReadPartition(within(t), partitions.PartitionIDs[0]))
	equal(t, rows(t, read), []string{"1", "2", "3", "4", "5"})
	_, err = connect(t, "hospital").ReadPartition(within(t), partitions.PartitionIDs[0])
	refused(t, err, adbc.StatusInvalidArgument, "this is no valid ticket of yours; ask for the flight info again")
}

// PollFlightInfo: here a query is ready at the first poll.
func TestAnIncrementalQueryIsCompleteAtOnce(t *testing.T) {
	connection := connect(t, "researcher")
	made := statement(t, connection, "SELECT 7 AS seven")
	done(t, made.SetOption(adbc.OptionKeyIncremental, adbc.OptionValueEnabled))
	_, partitions, _, err := made.ExecutePartitions(within(t))
	done(t, err)
	equal(t, partitions.NumPartitions, uint64(1))
	progress := must[float64](t)(made.(adbc.GetSetOptions).GetOptionDouble(adbc.OptionKeyProgress))
	equal(t, progress, 1.0)
	read := must[array.RecordReader](t)(connection.ReadPartition(within(t), partitions.PartitionIDs[0]))
	equal(t, rows(t, read), []string{"7"})
	_, partitions, _, err = made.ExecutePartitions(within(t))
	done(t, err)
	equal(t, partitions.NumPartitions, uint64(0))
}

func TestStatementsOfOneConnectionRunAtOnce(t *testing.T) {
	connection := connect(t, "researcher")
	found := make([]string, 16)
	var running sync.WaitGroup
	for at := range found {
		made := statement(t, connection, fmt.Sprintf("SELECT sum(n) + %d FROM generate_series(1, 1000000) AS a(n)", at))
		running.Add(1)
		go func() {
			defer running.Done()
			reader, _, err := made.ExecuteQuery(within(t))
			if err != nil {
				found[at] = err.Error()
				return
			}
			defer reader.Release()
			for reader.Next() {
				found[at] += texts(reader.RecordBatch())[0]
			}
		}()
	}
	running.Wait()
	for at, sum := range found {
		equal(t, sum, fmt.Sprint(500_000_500_000+at))
	}
}

// --- prepared statements ---

func prepared(t *testing.T, connection adbc.Connection, sql string) adbc.Statement {
	t.Helper()
	made := statement(t, connection, sql)
	done(t, made.Prepare(within(t)))
	return made
}

// The numbers from `first` to `last`.
func series(t *testing.T, name string, first, last int) arrow.RecordBatch {
	t.Helper()
	json := "["
	for n := first; n <= last; n++ {
		json += fmt.Sprintf(`{"%s": %d},`, name, n)
	}
	return batch(t, numbers(name), json[:len(json)-1]+"]")
}

func TestEveryBoundRowIsExecuted(t *testing.T) {
	made := prepared(t, connect(t, "researcher"), "SELECT CAST(? AS BIGINT) * 2 AS doubled")
	expected := make([]string, 1000)
	for n := range expected {
		expected[n] = fmt.Sprint(2 * (n + 1))
	}
	execute := func() []string {
		reader, _, err := made.ExecuteQuery(within(t))
		done(t, err)
		return rows(t, reader)
	}
	done(t, made.Bind(within(t), series(t, "a", 1, 1000)))
	equal(t, execute(), expected)
	done(t, made.BindStream(within(t), reader(t, series(t, "a", 1, 400), series(t, "a", 401, 1000))))
	equal(t, execute(), expected)
	done(t, made.Bind(within(t), batch(t, numbers("a"), `[{"a": null}]`)))
	equal(t, execute(), []string{"(null)"})
}

func TestParametersAreDescribed(t *testing.T) {
	connection := connect(t, "researcher")
	for sql, expected := range map[string][]string{
		"SELECT 1 AS one": {},
		"SELECT * FROM snds.ir_ben_r WHERE ben_nai_ann < ? AND ben_sex_cod = ?":   {" int32", " int32"},
		"SELECT * FROM snds.ir_ben_r WHERE ben_nai_ann < $1 OR ben_nai_moi >= $1": {" int32"},
		"SELECT CAST(? AS BIGINT) AS a, ? AS b":                                   {" int64", " null"},
	} {
		made := prepared(t, connection, sql)
		schema := must[*arrow.Schema](t)(made.GetParameterSchema())
		equal(t, fields(schema), expected)
	}
}

func TestTooManyBoundRowsAreRefused(t *testing.T) {
	made := prepared(t, connect(t, "researcher"), "SELECT CAST(? AS BIGINT) AS a")
	done(t, made.Bind(within(t), series(t, "a", 1, 10_001)))
	_, _, err := made.ExecuteQuery(within(t))
	// The driver has no status for RESOURCE_EXHAUSTED.
	refused(t, err, adbc.StatusInternal, "at most 10000 rows, 200000 values and 67108864 bytes of parameters can be bound at once")
}
