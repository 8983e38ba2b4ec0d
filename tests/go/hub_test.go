// Package hubflight tests a running Hubflight with the clients that Go programs use: the ADBC driver,
// Arrow's Flight clients and plain gRPC. `run` starts a demo for it.
package hubflight

import (
	"context"
	"errors"
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow-adbc/go/adbc"
	driver "github.com/apache/arrow-adbc/go/adbc/driver/flightsql"
	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/flight"
	"github.com/apache/arrow-go/v18/arrow/flight/flightsql"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
)

// No single call of these tests may take longer.
const callSecondsMax = 20

var address = os.Getenv("HUBFLIGHT_ADDRESS")

func TestMain(m *testing.M) {
	if address == "" {
		fmt.Fprintln(os.Stderr, "HUBFLIGHT_ADDRESS names no server; start these tests with tests/go/run")
		os.Exit(2)
	}
	os.Exit(m.Run())
}

func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), callSecondsMax*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func must[T any](t *testing.T) func(T, error) T {
	return func(value T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return value
	}
}

func done(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func equal(t *testing.T, got, want any) {
	t.Helper()
	if !reflect.DeepEqual(got, want) {
		t.Fatalf("got  %v\nwant %v", got, want)
	}
}

// --- the ADBC driver ---

type options = map[string]string

// The options of a demo account, and more of them.
func of(account string, more ...options) options {
	all := options{adbc.OptionKeyUsername: account, adbc.OptionKeyPassword: account + "-demo"}
	for _, some := range more {
		for name, value := range some {
			all[name] = value
		}
	}
	return all
}

func open(t *testing.T, with options) (adbc.Connection, error) {
	t.Helper()
	with[adbc.OptionKeyURI] = "grpc://" + address
	database, err := driver.NewDriver(memory.DefaultAllocator).NewDatabase(with)
	done(t, err)
	connection, err := database.Open(within(t))
	if err == nil {
		t.Cleanup(func() { connection.Close() })
	}
	return connection, err
}

func connect(t *testing.T, account string, more ...options) adbc.Connection {
	t.Helper()
	return must[adbc.Connection](t)(open(t, of(account, more...)))
}

func statement(t *testing.T, connection adbc.Connection, sql string) adbc.Statement {
	t.Helper()
	made := must[adbc.Statement](t)(connection.NewStatement())
	t.Cleanup(func() { made.Close() })
	done(t, made.SetSqlQuery(sql))
	return made
}

func query(t *testing.T, connection adbc.Connection, sql string) []string {
	t.Helper()
	reader, _, err := statement(t, connection, sql).ExecuteQuery(within(t))
	done(t, err)
	return rows(t, reader)
}

func update(t *testing.T, connection adbc.Connection, sql string) int64 {
	t.Helper()
	return must[int64](t)(statement(t, connection, sql).ExecuteUpdate(within(t)))
}

// What a query is refused with: by GetFlightInfo, or when its rows are read.
func refusal(t *testing.T, connection adbc.Connection, sql string) error {
	t.Helper()
	reader, _, err := statement(t, connection, sql).ExecuteQuery(within(t))
	if err != nil {
		return err
	}
	defer reader.Release()
	for reader.Next() {
	}
	return reader.Err()
}

// The driver puts its own words around the server's text.
func refused(t *testing.T, err error, wanted adbc.Status, text string) {
	t.Helper()
	var failure adbc.Error
	if !errors.As(err, &failure) {
		t.Fatalf("no error of ADBC: %v", err)
	}
	said, _, _ := strings.Cut(strings.TrimPrefix(failure.Msg, "[FlightSQL] "), " ("+codes.Code(failure.VendorCode).String()+";")
	equal(t, said, text)
	equal(t, failure.Code, wanted)
}

// The space's tables of one test, gone after it.
func dropped(t *testing.T, connection adbc.Connection, names ...string) {
	t.Helper()
	drop := func() {
		for _, name := range names {
			update(t, connection, "DROP TABLE IF EXISTS space."+name)
		}
	}
	drop()
	t.Cleanup(drop)
}

// --- Arrow ---

// Each row as a text, its values with bars between.
func rows(t *testing.T, reader array.RecordReader) []string {
	t.Helper()
	defer reader.Release()
	all := []string{}
	for reader.Next() {
		all = append(all, texts(reader.RecordBatch())...)
	}
	done(t, reader.Err())
	return all
}

func texts(batch arrow.RecordBatch) []string {
	all := make([]string, batch.NumRows())
	for row := range all {
		values := make([]string, batch.NumCols())
		for column := range values {
			values[column] = batch.Column(column).ValueStr(row)
		}
		all[row] = strings.Join(values, "|")
	}
	return all
}

func fields(schema *arrow.Schema) []string {
	all := make([]string, schema.NumFields())
	for at, field := range schema.Fields() {
		all[at] = field.Name + " " + field.Type.String()
	}
	return all
}

// A batch of columns that are written as JSON.
func batch(t *testing.T, schema *arrow.Schema, json string) arrow.RecordBatch {
	t.Helper()
	made, _, err := array.RecordFromJSON(memory.DefaultAllocator, schema, strings.NewReader(json))
	done(t, err)
	return made
}

func numbers(name string) *arrow.Schema {
	return arrow.NewSchema([]arrow.Field{{Name: name, Type: arrow.PrimitiveTypes.Int64, Nullable: true}}, nil)
}

func reader(t *testing.T, batches ...arrow.RecordBatch) array.RecordReader {
	t.Helper()
	return must[array.RecordReader](t)(array.NewRecordReader(batches[0].Schema(), batches))
}

// --- Flight ---

var plaintext = grpc.WithTransportCredentials(insecure.NewCredentials())

// A client of Flight SQL, which is one of Flight as well, and the context that calls as an account.
func flightClient(t *testing.T, account string, middleware ...flight.ClientMiddleware) (*flightsql.Client, context.Context) {
	t.Helper()
	client := must[*flightsql.Client](t)(flightsql.NewClient(address, nil, middleware, plaintext))
	t.Cleanup(func() { client.Close() })
	ctx := must[context.Context](t)(client.Client.AuthenticateBasicToken(within(t), account, account+"-demo"))
	return client, ctx
}

func fetch(t *testing.T, ctx context.Context, client *flightsql.Client, ticket *flight.Ticket) []string {
	t.Helper()
	return rows(t, must[*flight.Reader](t)(client.DoGet(ctx, ticket)))
}

// How reading a ticket ends that must not be readable.
func fetchError(t *testing.T, ctx context.Context, client *flightsql.Client, ticket *flight.Ticket) error {
	t.Helper()
	stream, err := client.DoGet(ctx, ticket)
	if err != nil {
		return err
	}
	defer stream.Release()
	for stream.Next() {
	}
	return stream.Err()
}

func wrong(t *testing.T, err error, code codes.Code, text string) {
	t.Helper()
	equal(t, [2]string{status.Code(err).String(), status.Convert(err).Message()}, [2]string{code.String(), text})
}
