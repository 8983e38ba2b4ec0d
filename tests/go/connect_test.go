package hubflight

// Tokens of one's own, TLS, and what the tests of Flight's client lack beside the scenarios.

import (
	"context"
	"crypto/x509"
	"os"
	"regexp"
	"testing"
	"time"

	"github.com/apache/arrow-adbc/go/adbc"
	driver "github.com/apache/arrow-adbc/go/adbc/driver/flightsql"
	"github.com/apache/arrow-go/v18/arrow/flight"
	"github.com/apache/arrow-go/v18/arrow/flight/flightsql"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

func ownToken(t *testing.T) string {
	t.Helper()
	made := query(t, connect(t, "researcher"), "CALL hub.create_token('go', 1)")
	equal(t, len(made), 1)
	return regexp.MustCompile(`hubpat_[^|]+`).FindString(made[0])
}

func TestATokenOfOnesOwnConnectsADBC(t *testing.T) {
	connection := must[adbc.Connection](t)(open(t, options{driver.OptionAuthorizationHeader: "Bearer " + ownToken(t)}))
	equal(t, query(t, connection, "SELECT 7"), []string{"7"})
}

func TestATokenOfOnesOwnConnectsFlight(t *testing.T) {
	client := must[*flightsql.Client](t)(flightsql.NewClient(address, nil, nil, plaintext))
	defer client.Close()
	ctx := metadata.AppendToOutgoingContext(within(t), "authorization", "Bearer "+ownToken(t))
	info := execute(t, ctx, client, "SELECT 7 AS seven")
	equal(t, fetch(t, ctx, client, info.Endpoint[0].Ticket), []string{"7"})
}

// --- TLS ---

// The server with TLS, and the authority that signed its certificate.
func secure(t *testing.T) (string, string) {
	t.Helper()
	return os.Getenv("HUBFLIGHT_TLS_ADDRESS"), string(must[[]byte](t)(os.ReadFile(os.Getenv("HUBFLIGHT_TLS_AUTHORITY"))))
}

func TestADBCConnectsByTLS(t *testing.T) {
	address, authority := secure(t)
	for _, trusted := range []bool{true, false} {
		with := of("researcher", options{adbc.OptionKeyURI: "grpc+tls://" + address})
		if trusted {
			with[driver.OptionSSLRootCerts] = authority
		}
		database := must[adbc.Database](t)(driver.NewDriver(memory.DefaultAllocator).NewDatabase(with))
		connection, err := database.Open(within(t))
		if !trusted {
			equal(t, err != nil, true)
			continue
		}
		done(t, err)
		defer connection.Close()
		equal(t, query(t, connection, "SELECT 42"), []string{"42"})
	}
}

func TestFlightConnectsByTLS(t *testing.T) {
	address, authority := secure(t)
	for _, trusted := range []bool{true, false} {
		roots := x509.NewCertPool()
		if trusted {
			equal(t, roots.AppendCertsFromPEM([]byte(authority)), true)
		}
		client := must[*flightsql.Client](t)(flightsql.NewClient(address, nil, nil,
			grpc.WithTransportCredentials(credentials.NewClientTLSFromCert(roots, ""))))
		defer client.Close()
		ctx, err := client.Client.AuthenticateBasicToken(within(t), "researcher", "researcher-demo")
		if !trusted {
			equal(t, status.Code(err), codes.Unavailable)
			continue
		}
		done(t, err)
		info := execute(t, ctx, client, "SELECT 42 AS n")
		equal(t, fetch(t, ctx, client, info.Endpoint[0].Ticket), []string{"42"})
	}
}

// --- Flight ---

func TestADeadlineStopsWhatFlightReads(t *testing.T) {
	client, ctx := flightClient(t, "researcher")
	info := execute(t, ctx, client, slow)
	soon, cancel := context.WithTimeout(ctx, 500*time.Millisecond)
	defer cancel()
	started := time.Now()
	equal(t, status.Code(fetchError(t, soon, client, info.Endpoint[0].Ticket)), codes.DeadlineExceeded)
	equal(t, time.Since(started) < 5*time.Second, true)
}

func TestFlightExecutesEveryBoundRow(t *testing.T) {
	client, ctx := flightClient(t, "researcher")
	made := must[*flightsql.PreparedStatement](t)(client.Prepare(ctx, "SELECT CAST(? AS BIGINT) * 2 AS doubled"))
	made.SetParameters(series(t, "a", 1, 500))
	info := must[*flight.FlightInfo](t)(made.Execute(ctx))
	found := fetch(t, ctx, client, info.Endpoint[0].Ticket)
	equal(t, []any{len(found), found[0], found[499]}, []any{500, "2", "1000"})
	done(t, made.Close(ctx))
}

// --- transactions ---

func TestATransactionOfADBC(t *testing.T) {
	other, own := connect(t, "researcher"), connect(t, "researcher")
	dropped(t, other, "go_own_transaction")
	update(t, other, "CREATE TABLE space.go_own_transaction (a BIGINT)")
	done(t, own.(adbc.PostInitOptions).SetOption(adbc.OptionKeyAutoCommit, adbc.OptionValueDisabled))
	update(t, own, "INSERT INTO space.go_own_transaction VALUES (1), (2)")
	equal(t, query(t, own, "SELECT a FROM space.go_own_transaction ORDER BY a"), []string{"1", "2"})
	equal(t, query(t, other, "SELECT a FROM space.go_own_transaction"), []string{})
	done(t, own.Rollback(within(t)))
	update(t, own, "INSERT INTO space.go_own_transaction VALUES (3)")
	done(t, own.Commit(within(t)))
	equal(t, query(t, other, "SELECT a FROM space.go_own_transaction"), []string{"3"})
}
