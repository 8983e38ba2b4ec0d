package hubflight

import (
	"encoding/json"
	"testing"

	"github.com/apache/arrow-adbc/go/adbc"
	driver "github.com/apache/arrow-adbc/go/adbc/driver/flightsql"
	"github.com/apache/arrow-go/v18/arrow"
)

const (
	option  = driver.OptionSessionOptionPrefix
	boolean = driver.OptionBoolSessionOptionPrefix
	erase   = driver.OptionEraseSessionOptionPrefix
)

// A connection whose options are set and read.
func session(t *testing.T, account string) adbc.GetSetOptions {
	t.Helper()
	return connect(t, account).(adbc.GetSetOptions)
}

func TestOptionsHaveTheirTypes(t *testing.T) {
	set := session(t, "researcher")
	done(t, set.SetOption(option+"priority", "batch"))
	done(t, set.SetOption(boolean+"wire.views", adbc.OptionValueEnabled))
	done(t, set.SetOptionInt(option+"statement_seconds", 77))
	equal(t, must[string](t)(set.GetOption(option+"priority")), "batch")
	equal(t, must[string](t)(set.GetOption(boolean+"wire.views")), adbc.OptionValueEnabled)
	equal(t, must[int64](t)(set.GetOptionInt(option+"statement_seconds")), int64(77))
	// As another type they are not there.
	_, err := set.GetOption(option + "statement_seconds")
	refused(t, err, adbc.StatusNotFound, "[Flight SQL] session option statement_seconds=77 is not a string value")
	_, err = set.GetOption(boolean + "priority")
	refused(t, err, adbc.StatusNotFound, `[Flight SQL] session option priority="batch" is not a boolean value`)
}

func TestOptionsAreListedWithTheirDefaults(t *testing.T) {
	set := session(t, "researcher")
	list := func() map[string]any {
		found := map[string]any{}
		done(t, json.Unmarshal([]byte(must[string](t)(set.GetOption(driver.OptionSessionOptions))), &found))
		return found
	}
	expected := map[string]any{
		"catalog": "readmission", "priority": "interactive", "wire.compression": "none",
		"wire.endpoints": float64(1), "wire.views": false,
	}
	equal(t, list(), expected)
	done(t, set.SetOption(option+"time_zone", "Europe/Paris"))
	expected["time_zone"] = "Europe/Paris"
	equal(t, list(), expected)
	done(t, set.SetOption(erase+"time_zone", ""))
	delete(expected, "time_zone")
	equal(t, list(), expected)
}

func TestWrongOptionsAreRefused(t *testing.T) {
	set := session(t, "researcher")
	for _, one := range []struct{ name, value, why string }{
		{"nothing", "x", "invalid name"},
		{"priority", "now", "invalid value"},
		{"statement_seconds", "soon", "invalid value"},
		{"time_zone", "Mars/Olympus", "invalid value"},
		{"catalog", "linked", "invalid value"},
	} {
		refused(t, set.SetOption(option+one.name, one.value), adbc.StatusInvalidArgument,
			"[Flight SQL] Could not set option(s) '"+one.name+"' ("+one.why+")")
	}
}

// A list has no comma that could be told from one in a text.
func TestNoOptionIsAList(t *testing.T) {
	err := session(t, "researcher").SetOption(driver.OptionStringListSessionOptionPrefix+"tags", `["a","b"]`)
	refused(t, err, adbc.StatusInvalidArgument, "[Flight SQL] Could not set option(s) 'tags' (invalid value)")
}

func TestCatalogAndSchemaAreOptionsOfADBC(t *testing.T) {
	connection := connect(t, "consultant")
	set := connection.(adbc.GetSetOptions)
	done(t, set.SetOption(adbc.OptionKeyCurrentCatalog, "readmission"))
	done(t, set.SetOption(adbc.OptionKeyCurrentDbSchema, "snds"))
	equal(t, must[string](t)(set.GetOption(adbc.OptionKeyCurrentCatalog)), "readmission")
	equal(t, must[string](t)(set.GetOption(adbc.OptionKeyCurrentDbSchema)), "snds")
	equal(t, query(t, connection, "SELECT count(*) > 0 FROM t_mco_b"), []string{"true"})
	done(t, set.SetOption(adbc.OptionKeyCurrentCatalog, "ecg_ai"))
	refused(t, refusal(t, connection, "SELECT count(*) FROM t_mco_b"), adbc.StatusNotFound,
		"table `t_mco_b` does not exist in project `ecg_ai`; `SHOW TABLES` lists what there is")
}

func TestConnectionsOfOneAccountHaveOptionsOfTheirOwn(t *testing.T) {
	one, other := session(t, "researcher"), session(t, "researcher")
	done(t, one.SetOption(option+"time_zone", "Europe/Paris"))
	_, err := other.GetOption(option + "time_zone")
	refused(t, err, adbc.StatusNotFound, "[Flight SQL] unknown session option 'time_zone'")
}

func TestNoTimeForAStatementIsNoOption(t *testing.T) {
	connection := connect(t, "researcher")
	err := connection.(adbc.GetSetOptions).SetOptionInt(option+"statement_seconds", 0)
	refused(t, err, adbc.StatusInvalidArgument, "[Flight SQL] Could not set option(s) 'statement_seconds' (invalid value)")
}

func TestTimesHaveTheSessionsTimeZone(t *testing.T) {
	connection := connect(t, "researcher")
	done(t, connection.(adbc.GetSetOptions).SetOption(option+"time_zone", "Europe/Paris"))
	equal(t, query(t, connection, "SELECT CAST('2024-07-01T12:00:00Z' AS TIMESTAMP WITH TIME ZONE) AS t"), []string{"2024-07-01T14:00:00+02:00"})
	told := must[*arrow.Schema](t)(statement(t, connection, "SELECT now() AS t").(adbc.StatementExecuteSchema).ExecuteSchema(within(t)))
	equal(t, fields(told), []string{"t timestamp[ns, tz=Europe/Paris]"})
}
