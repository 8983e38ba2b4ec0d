package hubflight

import (
	"fmt"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
)

// Values of each type, sent as parameters and as rows for a table, and what they are afterwards.
var types = []struct {
	kind        arrow.DataType
	value       string
	bound, kept string
	text        string
}{
	{arrow.PrimitiveTypes.Int8, `-1`, "int8", "int8", "-1"},
	// As a text: a number of JSON would be read as a float64.
	{arrow.PrimitiveTypes.Int64, `"9007199254740993"`, "int64", "int64", "9007199254740993"},
	{arrow.PrimitiveTypes.Uint32, `4294967295`, "uint32", "uint32", "4294967295"},
	{arrow.PrimitiveTypes.Float64, `1.5`, "float64", "float64", "1.5"},
	{arrow.FixedWidthTypes.Float16, `1.5`, "float16", "float16", "1.5"},
	{arrow.FixedWidthTypes.Boolean, `true`, "bool", "bool", "true"},
	{arrow.BinaryTypes.String, `"Zoé"`, "utf8", "utf8", "Zoé"},
	{arrow.BinaryTypes.LargeString, `"Zoé"`, "large_utf8", "large_utf8", "Zoé"},
	{arrow.BinaryTypes.StringView, `"Zoé"`, "utf8", "utf8", "Zoé"},
	{arrow.BinaryTypes.Binary, `"AP8="`, "binary", "binary", "AP8="},
	{&arrow.FixedSizeBinaryType{ByteWidth: 2}, `"AP8="`, "fixed_size_binary[2]", "fixed_size_binary[2]", "AP8="},
	{arrow.FixedWidthTypes.Date32, `"2024-02-29"`, "date32", "date32", "2024-02-29"},
	{arrow.FixedWidthTypes.Time64us, `"12:30:00"`, "time64[us]", "time64[us]", "12:30:00.000000"},
	{arrow.FixedWidthTypes.Timestamp_us, `"2024-02-29 12:30:00"`, "timestamp[us, tz=UTC]", "timestamp[us, tz=UTC]", "2024-02-29T12:30:00Z"},
	{&arrow.TimestampType{Unit: arrow.Nanosecond}, `"2024-02-29 12:30:00"`, "timestamp[ns]", "timestamp[ns]", "2024-02-29T12:30:00Z"},
	{arrow.FixedWidthTypes.Duration_s, `"7s"`, "duration[s]", "duration[s]", "7s"},
	{&arrow.Decimal128Type{Precision: 12, Scale: 2}, `"-0.01"`, "decimal(12, 2)", "decimal(12, 2)", "-0.01"},
	{arrow.ListOf(arrow.PrimitiveTypes.Int64), `[1, null]`, "list<item: int64, nullable>", "list<item: int64, nullable>", "[1,null]"},
	{arrow.StructOf(arrow.Field{Name: "x", Type: arrow.PrimitiveTypes.Int32, Nullable: true}), `{"x": 7}`,
		"struct<x: int32>", "struct<x: int32>", `{"x":7}`},
	{&arrow.DictionaryType{IndexType: arrow.PrimitiveTypes.Int8, ValueType: arrow.BinaryTypes.String}, `"I10"`, "utf8", "utf8", "I10"},
	{arrow.Null, `null`, "null", "utf8", "(null)"},
}

func TestValuesOfEachTypeComeBack(t *testing.T) {
	connection := connect(t, "researcher")
	client, ctx := flightClient(t, "researcher")
	dropped(t, connection, "go_types")
	echo := prepared(t, connection, "SELECT ? AS v")
	for _, one := range types {
		t.Run(one.kind.String(), func(t *testing.T) {
			schema := arrow.NewSchema([]arrow.Field{{Name: "v", Type: one.kind, Nullable: true}}, nil)
			sent := batch(t, schema, fmt.Sprintf(`[{"v": %s}, {"v": null}]`, one.value))
			expected := []string{one.text, "(null)"}

			done(t, echo.Bind(within(t), sent))
			bound, _, err := echo.ExecuteQuery(within(t))
			done(t, err)
			equal(t, fields(bound.Schema()), []string{"v " + one.bound})
			equal(t, rows(t, bound), expected)

			equal(t, must[int64](t)(client.ExecuteIngest(ctx, reader(t, sent), ingestOf("go_types", create, replace))), int64(2))
			kept, _, err := statement(t, connection, "SELECT v FROM space.go_types").ExecuteQuery(within(t))
			done(t, err)
			equal(t, fields(kept.Schema()), []string{"v " + one.kept})
			equal(t, rows(t, kept), expected)
		})
	}
}
