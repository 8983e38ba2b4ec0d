package hubflight

import (
	"context"
	"encoding/base64"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/flight"
	"github.com/apache/arrow-go/v18/arrow/flight/flightsql"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
)

const logIn = "log in first: a handshake with user and password, or the header `authorization` with `Basic` or `Bearer`"

func path(names ...string) *flight.FlightDescriptor {
	return &flight.FlightDescriptor{Type: flight.DescriptorPATH, Path: names}
}

// All messages of a stream that ends well.
func all[T any](t *testing.T, stream interface{ Recv() (T, error) }) []T {
	t.Helper()
	found := []T{}
	for {
		one, err := stream.Recv()
		if err == io.EOF {
			return found
		}
		done(t, err)
		found = append(found, one)
	}
}

func listed(t *testing.T, account, pattern string) []*flight.FlightInfo {
	t.Helper()
	client, ctx := flightClient(t, account)
	return all[*flight.FlightInfo](t, must[flight.FlightService_ListFlightsClient](t)(
		client.Client.ListFlights(ctx, &flight.Criteria{Expression: []byte(pattern)})))
}

func pathOf(info *flight.FlightInfo) string {
	return strings.Join(info.FlightDescriptor.Path, ".")
}

func fieldsOf(t *testing.T, serialized []byte) []string {
	t.Helper()
	return fields(must[*arrow.Schema](t)(flight.DeserializeSchema(serialized, memory.DefaultAllocator)))
}

func execute(t *testing.T, ctx context.Context, client *flightsql.Client, sql string) *flight.FlightInfo {
	t.Helper()
	return must[*flight.FlightInfo](t)(client.Execute(ctx, sql))
}

// --- who calls ---

func TestAnyCallTakesBasicAuthorization(t *testing.T) {
	client := must[flight.Client](t)(flight.NewClientWithMiddleware(address, nil, nil, plaintext))
	defer client.Close()
	call := func(login string, encoding *base64.Encoding) error {
		ctx := metadata.AppendToOutgoingContext(within(t), "authorization", "Basic "+encoding.EncodeToString([]byte(login)))
		_, err := client.GetFlightInfo(ctx, path("snds", "ir_cim_v"))
		return err
	}
	// Arrow's client leaves the padding out.
	for _, encoding := range []*base64.Encoding{base64.StdEncoding, base64.RawStdEncoding} {
		done(t, call("researcher:researcher-demo", encoding))
		wrong(t, call("visitor:wrong", encoding), codes.Unauthenticated, noLogin)
	}
	_, err := client.GetFlightInfo(within(t), path("snds", "ir_cim_v"))
	wrong(t, err, codes.Unauthenticated, logIn)
}

// --- tables as flights ---

func TestTheTablesThatOneSeesAreFlights(t *testing.T) {
	flights := listed(t, "researcher", `snds.t\_mco\__`)
	equal(t, names(flights, pathOf), []string{"readmission.snds.t_mco_a", "readmission.snds.t_mco_b", "readmission.snds.t_mco_d"})
	equal(t, fieldsOf(t, flights[2].Schema), []string{"eta_num utf8", "rsa_num utf8", "ass_dgn utf8"})
	for _, one := range flights {
		equal(t, []int64{int64(len(one.Endpoint)), one.TotalRecords, one.TotalBytes}, []int64{0, -1, -1})
	}
	equal(t, len(listed(t, "researcher", "cardio.%")), 0)
	equal(t, names(listed(t, "startup", "cardio.%"), pathOf), []string{"ecg_ai.cardio.ecg"})
	// What is listed is what GetTables tells.
	browsed := []string{}
	for _, catalog := range objects(t, connect(t, "researcher"), wanted{depth: 3}) {
		for _, schema := range catalog.Schemas {
			for _, table := range schema.Tables {
				browsed = append(browsed, catalog.Name+"."+schema.Name+"."+table.Name)
			}
		}
	}
	slices.Sort(browsed)
	equal(t, names(listed(t, "researcher", ""), pathOf), browsed)
}

func TestAPathIsAllRowsOfATable(t *testing.T) {
	client, ctx := flightClient(t, "researcher")
	counted := query(t, connect(t, "researcher"), "SELECT * FROM snds.ir_ccam_v ORDER BY 1")
	for _, descriptor := range []*flight.FlightDescriptor{path("readmission", "snds", "ir_ccam_v"), path("snds", "ir_ccam_v")} {
		info := must[*flight.FlightInfo](t)(client.Client.GetFlightInfo(ctx, descriptor))
		equal(t, info.FlightDescriptor.Path, descriptor.Path)
		equal(t, len(info.Endpoint), 1)
		equal(t, len(info.Endpoint[0].Location), 0)
		schema := must[*flight.SchemaResult](t)(client.Client.GetSchema(ctx, descriptor))
		equal(t, fieldsOf(t, schema.Schema), fieldsOf(t, info.Schema))
		found := fetch(t, ctx, client, info.Endpoint[0].Ticket)
		slices.Sort(found)
		equal(t, found, counted)
	}
}

func TestWrongPathsAreRefused(t *testing.T) {
	client, ctx := flightClient(t, "researcher")
	for _, one := range []struct {
		descriptor *flight.FlightDescriptor
		code       codes.Code
		text       string
	}{
		{path("readmission", "cardio", "ecg"), codes.NotFound, "table `readmission.cardio.ecg` does not exist in project `readmission`; `SHOW TABLES` lists what there is"},
		{path("readmission", "nothing", "ecg"), codes.NotFound, "table `readmission.nothing.ecg` does not exist in project `readmission`; `SHOW TABLES` lists what there is"},
		{path("a", "b", "c", "d"), codes.InvalidArgument, "a path names a table by its project, schema and name, or by the last of them"},
		{path(), codes.InvalidArgument, "a path names a table by its project, schema and name, or by the last of them"},
		{&flight.FlightDescriptor{Type: flight.DescriptorCMD, Cmd: []byte("junk")}, codes.InvalidArgument, "this is no Flight SQL command"},
		{&flight.FlightDescriptor{}, codes.InvalidArgument, "the descriptor names neither a path nor a command"},
	} {
		_, err := client.Client.GetFlightInfo(ctx, one.descriptor)
		wrong(t, err, one.code, one.text)
		_, err = client.Client.GetSchema(ctx, one.descriptor)
		wrong(t, err, one.code, one.text)
		_, err = client.Client.PollFlightInfo(ctx, one.descriptor)
		wrong(t, err, one.code, one.text)
	}
}

// --- tickets ---

func TestTicketsTellWhenTheyExpire(t *testing.T) {
	client, ctx := flightClient(t, "researcher")
	asked := time.Now()
	endpoint := execute(t, ctx, client, "SELECT 1 AS one").Endpoint[0]
	life := endpoint.ExpirationTime.AsTime().Sub(asked)
	if life < 9*time.Minute+50*time.Second || life > 10*time.Minute+10*time.Second {
		t.Errorf("a ticket lives for %s", life)
	}
	time.Sleep(1100 * time.Millisecond)
	renewed := must[*flight.FlightEndpoint](t)(client.RenewFlightEndpoint(ctx, &flight.RenewFlightEndpointRequest{Endpoint: endpoint}))
	gained := renewed.ExpirationTime.AsTime().Sub(endpoint.ExpirationTime.AsTime())
	if gained < time.Second || gained > 20*time.Second {
		t.Errorf("a renewed ticket lives %s longer", gained)
	}
	equal(t, fetch(t, ctx, client, renewed.Ticket), []string{"1"})
	equal(t, fetch(t, ctx, client, endpoint.Ticket), []string{"1"})
}

func TestATicketReadsWhatWasThereWhenItWasGiven(t *testing.T) {
	client, ctx := flightClient(t, "researcher")
	connection := connect(t, "researcher")
	dropped(t, connection, "go_moment")
	update(t, connection, "CREATE TABLE space.go_moment AS SELECT 1 AS a")
	info := execute(t, ctx, client, "SELECT count(*) AS n FROM space.go_moment")
	update(t, connection, "INSERT INTO space.go_moment VALUES (2)")
	equal(t, fetch(t, ctx, client, info.Endpoint[0].Ticket), []string{"1"})
	update(t, connection, "DROP TABLE space.go_moment")
	equal(t, fetch(t, ctx, client, info.Endpoint[0].Ticket), []string{"1"})
}

func TestOnlyOnesOwnStatementsAreRenewed(t *testing.T) {
	client, ctx := flightClient(t, "researcher")
	request := &flight.RenewFlightEndpointRequest{Endpoint: execute(t, ctx, client, "SELECT 1 AS one").Endpoint[0]}
	stranger, strangers := flightClient(t, "hospital")
	_, err := stranger.RenewFlightEndpoint(strangers, request)
	wrong(t, err, codes.InvalidArgument, "this is no valid ticket of yours; ask for the flight info again")
	catalogs := must[*flight.FlightInfo](t)(client.GetCatalogs(ctx))
	equal(t, catalogs.Endpoint[0].ExpirationTime == nil, true)
	_, err = client.RenewFlightEndpoint(ctx, &flight.RenewFlightEndpointRequest{Endpoint: catalogs.Endpoint[0]})
	wrong(t, err, codes.InvalidArgument, "this endpoint does not expire; only those of statements are renewed")
}

func TestWhatIsCancelledIsNotFetched(t *testing.T) {
	client, ctx := flightClient(t, "researcher")
	info := execute(t, ctx, client, "SELECT 1 AS one")
	renewed := must[*flight.FlightEndpoint](t)(client.RenewFlightEndpoint(ctx, &flight.RenewFlightEndpointRequest{Endpoint: info.Endpoint[0]}))
	result := must[*flight.CancelFlightInfoResult](t)(client.CancelFlightInfo(ctx, &flight.CancelFlightInfoRequest{Info: info}))
	equal(t, result.Status, flight.CancelStatusCancelled)
	for _, ticket := range []*flight.Ticket{info.Endpoint[0].Ticket, renewed.Ticket} {
		wrong(t, fetchError(t, ctx, client, ticket), codes.Canceled, "the statement was cancelled before it was fetched; run it again")
	}
	_, err := client.RenewFlightEndpoint(ctx, &flight.RenewFlightEndpointRequest{Endpoint: renewed})
	wrong(t, err, codes.Canceled, "the statement was cancelled before it was fetched; run it again")
	catalogs := must[*flight.FlightInfo](t)(client.GetCatalogs(ctx))
	result = must[*flight.CancelFlightInfoResult](t)(client.CancelFlightInfo(ctx, &flight.CancelFlightInfoRequest{Info: catalogs}))
	equal(t, result.Status, flight.CancelStatusNotCancellable)
}

func TestOnlyOnesOwnStatementsAreCancelled(t *testing.T) {
	client, ctx := flightClient(t, "researcher")
	info := execute(t, ctx, client, "SELECT 1 AS one")
	stranger, strangers := flightClient(t, "hospital")
	_, err := stranger.CancelFlightInfo(strangers, &flight.CancelFlightInfoRequest{Info: info})
	wrong(t, err, codes.InvalidArgument, "this is no valid ticket of yours; ask for the flight info again")
	wrong(t, fetchError(t, strangers, stranger, info.Endpoint[0].Ticket), codes.InvalidArgument,
		"this is no valid ticket of yours; ask for the flight info again")
	equal(t, fetch(t, ctx, client, info.Endpoint[0].Ticket), []string{"1"})
}

func TestACancelStopsWhatRuns(t *testing.T) {
	client, ctx := flightClient(t, "researcher")
	info := execute(t, ctx, client, slow)
	time.AfterFunc(300*time.Millisecond, func() {
		client.CancelFlightInfo(ctx, &flight.CancelFlightInfoRequest{Info: info})
	})
	began := time.Now()
	wrong(t, fetchError(t, ctx, client, info.Endpoint[0].Ticket), codes.Canceled, "the statement was cancelled")
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("it stopped after %s", took)
	}
}

func TestTheSchemaIsThatOfTheRows(t *testing.T) {
	client, ctx := flightClient(t, "researcher")
	const sql = "SELECT ben_idt, ben_nai_ann FROM snds.ir_ben_r LIMIT 1"
	schema := must[*flight.SchemaResult](t)(client.GetExecuteSchema(ctx, sql))
	info := execute(t, ctx, client, sql)
	equal(t, fieldsOf(t, schema.Schema), []string{"ben_idt utf8", "ben_nai_ann int32"})
	equal(t, fieldsOf(t, info.Schema), []string{"ben_idt utf8", "ben_nai_ann int32"})
	stream := must[*flight.Reader](t)(client.DoGet(ctx, info.Endpoint[0].Ticket))
	equal(t, fields(stream.Schema()), []string{"ben_idt utf8", "ben_nai_ann int32"})
	equal(t, len(rows(t, stream)), 1)
}

// --- actions ---

const actionsOffered = "there are CreatePreparedStatement, ClosePreparedStatement, BeginTransaction, EndTransaction, " +
	"CancelFlightInfo, CancelQuery, RenewFlightEndpoint, SetSessionOptions, GetSessionOptions, CloseSession"

func TestTheActionsThatAreListedWork(t *testing.T) {
	client, ctx := flightClient(t, "researcher")
	actions := all[*flight.ActionType](t, must[flight.FlightService_ListActionsClient](t)(client.Client.ListActions(ctx, &flight.Empty{})))
	found := names(actions, func(one *flight.ActionType) string { return one.Type })
	info := execute(t, ctx, client, "SELECT 1 AS one")
	made := must[*flightsql.PreparedStatement](t)(client.Prepare(ctx, "SELECT 1 AS one"))
	worked := map[string]func() error{
		"CreatePreparedStatement": func() error { _, err := client.Prepare(ctx, "SELECT 2 AS two"); return err },
		"ClosePreparedStatement":  func() error { return made.Close(ctx) },
		"CancelFlightInfo": func() error {
			_, err := client.CancelFlightInfo(ctx, &flight.CancelFlightInfoRequest{Info: info})
			return err
		},
		//lint:ignore SA1019 older clients call it
		"CancelQuery": func() error { _, err := client.CancelQuery(ctx, execute(t, ctx, client, "SELECT 1")); return err },
		"RenewFlightEndpoint": func() error {
			endpoint := execute(t, ctx, client, "SELECT 1").Endpoint[0]
			_, err := client.RenewFlightEndpoint(ctx, &flight.RenewFlightEndpointRequest{Endpoint: endpoint})
			return err
		},
		"BeginTransaction": func() error {
			_, err := client.BeginTransaction(ctx)
			return err
		},
		"EndTransaction": func() error {
			transaction, err := client.BeginTransaction(ctx)
			if err != nil {
				return err
			}
			return transaction.Rollback(ctx)
		},
		"SetSessionOptions": func() error {
			_, err := client.SetSessionOptions(ctx, &flight.SetSessionOptionsRequest{})
			return err
		},
		"GetSessionOptions": func() error {
			_, err := client.GetSessionOptions(ctx, &flight.GetSessionOptionsRequest{})
			return err
		},
		"CloseSession": func() error { _, err := client.CloseSession(ctx, &flight.CloseSessionRequest{}); return err },
	}
	expected := []string{}
	for name, call := range worked {
		expected = append(expected, name)
		if err := call(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	slices.Sort(expected)
	equal(t, found, expected)
}

func TestActionsThatAreNotListedAreRefused(t *testing.T) {
	client, ctx := flightClient(t, "researcher")
	for _, name := range []string{"", "Shutdown", "createpreparedstatement", "BeginSavepoint"} {
		stream, err := client.Client.DoAction(ctx, &flight.Action{Type: name})
		done(t, err)
		_, err = stream.Recv()
		wrong(t, err, codes.Unimplemented, "action `"+name+"` is not offered; "+actionsOffered)
	}
}

// --- names of requests ---

func TestRequestsHaveNames(t *testing.T) {
	client, ctx := flightClient(t, "researcher")
	named := func(ctx context.Context, command *flight.FlightDescriptor) []string {
		var header, trailer metadata.MD
		client.Client.GetFlightInfo(ctx, command, grpc.Header(&header), grpc.Trailer(&trailer))
		return append(header.Get("x-request-id"), trailer.Get("x-request-id")...)
	}
	for _, command := range []*flight.FlightDescriptor{path("snds", "ir_cim_v"), path("nothing", "there")} {
		equal(t, named(metadata.AppendToOutgoingContext(ctx, "x-request-id", "trace-4711"), command), []string{"trace-4711"})
		one, other := named(ctx, command), named(ctx, command)
		equal(t, []int{len(one), len(other)}, []int{1, 1})
		if one[0] == "" || one[0] == other[0] {
			t.Errorf("requests without names are called %q and %q", one, other)
		}
	}
}
