package hubflight

// The scenarios of Arrow's integration suite (`dev/archery`, by their names there) on the level of
// Flight. Their servers are mocks with fixed replies, so what their clients check is asked of this
// server in its own words. `scenarios_sql_test.go` has those of Flight SQL.

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow/flight"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// --- auth:basic_proto ---

type basicProto struct{ user, password, token string }

func (b *basicProto) Authenticate(_ context.Context, wire flight.AuthConn) error {
	message, err := proto.Marshal(&flight.BasicAuth{Username: b.user, Password: b.password})
	if err != nil {
		return err
	}
	if err := wire.Send(message); err != nil {
		return err
	}
	token, err := wire.Read()
	b.token = string(token)
	return err
}

func (b *basicProto) GetToken(context.Context) (string, error) { return b.token, nil }

func TestScenarioAuthBasicProto(t *testing.T) {
	login := &basicProto{user: "researcher", password: "researcher-demo"}
	client := must[flight.Client](t)(flight.NewClientWithMiddleware(address, login, nil, plaintext))
	defer client.Close()
	_, err := client.GetFlightInfo(within(t), path("snds", "ir_cim_v"))
	equal(t, status.Code(err), codes.Unauthenticated)
	done(t, client.Authenticate(within(t)))
	info := must[*flight.FlightInfo](t)(client.GetFlightInfo(within(t), path("snds", "ir_cim_v")))
	equal(t, len(info.Endpoint), 1)
	wrong := &basicProto{user: "researcher", password: "wrong"}
	refused := must[flight.Client](t)(flight.NewClientWithMiddleware(address, wrong, nil, plaintext))
	defer refused.Close()
	equal(t, status.Code(refused.Authenticate(within(t))), codes.Unauthenticated)
}

// --- middleware ---

type nameOf struct {
	sent     string
	received []string
}

func (n *nameOf) StartCall(ctx context.Context) context.Context {
	return metadata.AppendToOutgoingContext(ctx, "x-request-id", n.sent)
}

func (n *nameOf) HeadersReceived(_ context.Context, headers metadata.MD) {
	n.received = append(n.received, headers.Get("x-request-id")...)
}

func TestScenarioMiddleware(t *testing.T) {
	_, ctx := flightClient(t, "researcher")
	heard := &nameOf{sent: "expected-value"}
	middleware := []flight.ClientMiddleware{flight.CreateClientMiddleware(heard)}
	client := must[flight.Client](t)(flight.NewClientWithMiddleware(address, nil, middleware, plaintext))
	defer client.Close()
	for _, one := range []struct {
		descriptor *flight.FlightDescriptor
		code       codes.Code
	}{
		{path("nothing", "there"), codes.NotFound},
		{path("snds", "ir_cim_v"), codes.OK},
	} {
		heard.received = nil
		_, err := client.GetFlightInfo(ctx, one.descriptor)
		equal(t, status.Code(err), one.code)
		equal(t, heard.received, []string{"expected-value"})
	}
}

// --- ordered, location:reuse_connection ---

func TestScenarioOrdered(t *testing.T) {
	client, ctx := flightClient(t, "researcher")
	info := execute(t, ctx, client, "SELECT n FROM generate_series(1, 9) AS a(n) ORDER BY n DESC")
	found := []string{}
	for _, endpoint := range info.Endpoint {
		equal(t, len(endpoint.Location), 0)
		found = append(found, fetch(t, ctx, client, endpoint.Ticket)...)
	}
	equal(t, found, []string{"9", "8", "7", "6", "5", "4", "3", "2", "1"})
	equal(t, info.Ordered, true)
	equal(t, execute(t, ctx, client, "SELECT n FROM generate_series(1, 9) AS a(n)").Ordered, false)
}

// A result in several parts has no order, and one with an order one part.
func TestScenarioOrderedOfSeveralEndpoints(t *testing.T) {
	client, ctx := flightClient(t, "researcher")
	values := must[map[string]*flight.SessionOptionValue](t)(flight.NewSessionOptionValues(map[string]any{"wire.endpoints": int64(3)}))
	result := must[*flight.SetSessionOptionsResult](t)(client.SetSessionOptions(ctx, &flight.SetSessionOptionsRequest{SessionOptions: values}))
	equal(t, len(result.Errors), 0)
	info := execute(t, ctx, client, "SELECT n FROM generate_series(1, 9) AS a(n) ORDER BY n")
	equal(t, []any{len(info.Endpoint), info.Ordered}, []any{1, true})
	info = execute(t, ctx, client, "SELECT n FROM generate_series(1, 9) AS a(n)")
	equal(t, []any{len(info.Endpoint), info.Ordered}, []any{3, false})
	found := []string{}
	for _, endpoint := range info.Endpoint {
		found = append(found, fetch(t, ctx, client, endpoint.Ticket)...)
	}
	slices.Sort(found)
	equal(t, found, []string{"1", "2", "3", "4", "5", "6", "7", "8", "9"})
}

// No location says the same as `arrow-flight-reuse-connection://?`, also to clients that do not know it.
func TestScenarioLocationReuseConnection(t *testing.T) {
	client, ctx := flightClient(t, "researcher")
	info := execute(t, ctx, client, "SELECT 1 AS one")
	equal(t, len(info.Endpoint), 1)
	equal(t, len(info.Endpoint[0].Location), 0)
	equal(t, fetch(t, ctx, client, info.Endpoint[0].Ticket), []string{"1"})
}

// --- expiration_time ---

func TestScenarioExpirationTimeDoGet(t *testing.T) {
	client, ctx := flightClient(t, "researcher")
	info := execute(t, ctx, client, "SELECT n FROM generate_series(0, 2) AS a(n) ORDER BY n")
	equal(t, len(info.Endpoint), 1)
	equal(t, len(info.Endpoint[0].Location), 0)
	equal(t, info.Endpoint[0].ExpirationTime.AsTime().After(time.Now()), true)
	// Until then it may be read more than once.
	for range 2 {
		equal(t, fetch(t, ctx, client, info.Endpoint[0].Ticket), []string{"0", "1", "2"})
	}
}

func TestScenarioExpirationTimeListActions(t *testing.T) {
	client, ctx := flightClient(t, "researcher")
	actions := all[*flight.ActionType](t, must[flight.FlightService_ListActionsClient](t)(client.Client.ListActions(ctx, &flight.Empty{})))
	found := map[string]int{}
	for _, action := range actions {
		found[action.Type]++
	}
	equal(t, []int{found["CancelFlightInfo"], found["RenewFlightEndpoint"]}, []int{1, 1})
}

func TestScenarioExpirationTimeCancelFlightInfo(t *testing.T) {
	client, ctx := flightClient(t, "researcher")
	info := execute(t, ctx, client, "SELECT n FROM generate_series(0, 2) AS a(n)")
	result := must[*flight.CancelFlightInfoResult](t)(client.CancelFlightInfo(ctx, &flight.CancelFlightInfoRequest{Info: info}))
	equal(t, result.Status, flight.CancelStatusCancelled)
	for _, endpoint := range info.Endpoint {
		equal(t, status.Code(fetchError(t, ctx, client, endpoint.Ticket)), codes.Canceled)
	}
}

func TestScenarioExpirationTimeRenewFlightEndpoint(t *testing.T) {
	client, ctx := flightClient(t, "researcher")
	info := execute(t, ctx, client, "SELECT 1 AS one")
	equal(t, len(info.Endpoint), 1)
	first := info.Endpoint[0]
	renewed := must[*flight.FlightEndpoint](t)(client.RenewFlightEndpoint(ctx, &flight.RenewFlightEndpointRequest{Endpoint: first}))
	equal(t, renewed.ExpirationTime.AsTime().After(first.ExpirationTime.AsTime()), true)
}

// --- poll_flight_info, app_metadata_flight_info_endpoint ---

// Planning is all that happens before the rows are fetched, so that the first poll is the last.
func TestScenarioPollFlightInfo(t *testing.T) {
	client, ctx := flightClient(t, "researcher")
	info := must[*flight.PollInfo](t)(client.ExecutePoll(ctx, "SELECT 1 AS one", nil))
	equal(t, info.FlightDescriptor == nil, true)
	equal(t, info.GetProgress(), 1.0)
	equal(t, len(info.Info.Endpoint), 1)
	equal(t, fetch(t, ctx, client, info.Info.Endpoint[0].Ticket), []string{"1"})
	equal(t, info.ExpirationTime == nil, true)
}

// Arrow's mock echoes the command of the descriptor, which its client has and `FlightInfo.flight_descriptor`
// tells. Here both say which statement it is.
func TestScenarioAppMetadataFlightInfoEndpoint(t *testing.T) {
	client, ctx := flightClient(t, "researcher")
	info := execute(t, ctx, client, "SELECT 1 AS one")
	equal(t, len(info.Endpoint), 1)
	equal(t, info.Endpoint[0].AppMetadata, info.AppMetadata)
	asked := fmt.Sprintf("SELECT kind FROM hub.queries WHERE statement_id = '%s'", info.AppMetadata)
	equal(t, fetch(t, ctx, client, execute(t, ctx, client, asked).Endpoint[0].Ticket), []string{"query"})
	renewed := must[*flight.FlightEndpoint](t)(client.RenewFlightEndpoint(ctx, &flight.RenewFlightEndpointRequest{Endpoint: info.Endpoint[0]}))
	equal(t, renewed.AppMetadata, info.AppMetadata)
}

// --- session_options ---

func TestScenarioSessionOptions(t *testing.T) {
	client, ctx := flightClient(t, "researcher", flight.NewClientCookieMiddleware())
	values := func(of map[string]any) map[string]*flight.SessionOptionValue {
		return must[map[string]*flight.SessionOptionValue](t)(flight.NewSessionOptionValues(of))
	}
	expect := func(of map[string]any) {
		t.Helper()
		got := must[*flight.GetSessionOptionsResult](t)(client.GetSessionOptions(ctx, &flight.GetSessionOptionsRequest{}))
		found := map[string]string{}
		for name, value := range got.SessionOptions {
			found[name] = value.String()
		}
		expected := map[string]string{}
		for name, value := range values(of) {
			expected[name] = value.String()
		}
		equal(t, found, expected)
	}
	set := func(of map[string]any) map[string]string {
		result := must[*flight.SetSessionOptionsResult](t)(client.SetSessionOptions(ctx, &flight.SetSessionOptionsRequest{SessionOptions: values(of)}))
		errors := map[string]string{}
		for name, one := range result.Errors {
			errors[name] = one.Value.String()
		}
		return errors
	}
	// A new session has the defaults only.
	fresh := map[string]any{"catalog": "readmission", "priority": "interactive", "wire.compression": "none",
		"wire.endpoints": int64(1), "wire.views": false}
	expect(fresh)
	equal(t, set(map[string]any{
		"statement_seconds": int64(123), "wire.views": true, "time_zone": "Europe/Paris",
		"lol_invalid": "this won't get set", "priority": "lol_invalid", "schema": []string{"a", "b"}, "wire.compression": 456.5,
	}), map[string]string{"lol_invalid": "INVALID_NAME", "priority": "INVALID_VALUE", "schema": "INVALID_VALUE", "wire.compression": "INVALID_VALUE"})
	expect(map[string]any{"catalog": "readmission", "priority": "interactive", "wire.compression": "none",
		"wire.endpoints": int64(1), "wire.views": true,
		"statement_seconds": int64(123), "time_zone": "Europe/Paris"})
	equal(t, set(map[string]any{"statement_seconds": nil}), map[string]string{})
	expect(map[string]any{"catalog": "readmission", "priority": "interactive", "wire.compression": "none",
		"wire.endpoints": int64(1), "wire.views": true,
		"time_zone": "Europe/Paris"})
	closed := must[*flight.CloseSessionResult](t)(client.CloseSession(ctx, &flight.CloseSessionRequest{}))
	equal(t, closed.Status, flight.CloseSessionResultClosed)
	expect(fresh)
}

// --- do_exchange:echo ---

func TestScenarioDoExchangeEcho(t *testing.T) {
	client, ctx := flightClient(t, "researcher")
	stream := must[flight.FlightService_DoExchangeClient](t)(client.Client.DoExchange(ctx))
	writer := flight.NewRecordWriter(stream)
	writer.SetFlightDescriptor(&flight.FlightDescriptor{Type: flight.DescriptorCMD, Cmd: []byte("echo")})
	sent := series(t, "a", 1, 3)
	for range 3 {
		done(t, writer.Write(sent))
	}
	writer.Close()
	done(t, stream.CloseSend())
	reader, err := flight.NewRecordReader(stream)
	done(t, err)
	equal(t, rows(t, reader), []string{"1", "2", "3", "1", "2", "3", "1", "2", "3"})
}
