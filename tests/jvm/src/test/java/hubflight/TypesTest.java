package hubflight;

import static org.junit.jupiter.api.Assertions.*;

import java.math.BigDecimal;
import java.sql.*;
import java.util.*;
import org.junit.jupiter.api.*;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.*;

/** Every type that SQL makes, as JDBC reads it. The tests' JVM is in UTC. */
@TestInstance(TestInstance.Lifecycle.PER_CLASS)
class TypesTest {
  private Connection connection;

  @BeforeAll
  void connect() throws SQLException {
    connection = Hub.connect("researcher");
  }

  @AfterAll
  void close() throws SQLException {
    connection.close();
  }

  private interface Reader {
    Object read(ResultSet row) throws SQLException;
  }

  private Object read(String expression, Reader reader) throws SQLException {
    try (Statement statement = connection.createStatement();
        ResultSet rows = statement.executeQuery("SELECT " + expression + " AS x")) {
      assertTrue(rows.next());
      Object value = reader.read(rows);
      assertFalse(rows.next());
      return value;
    }
  }

  private record Case(String expression, int type, Object object, String text) {
    @Override
    public String toString() {
      return expression;
    }
  }

  static List<Case> plainTypes() {
    return List.of(
        new Case("CAST(-128 AS TINYINT)", Types.TINYINT, (byte) -128, "-128"),
        new Case("CAST(127 AS TINYINT)", Types.TINYINT, (byte) 127, "127"),
        new Case("CAST(-32768 AS SMALLINT)", Types.SMALLINT, (short) -32768, "-32768"),
        new Case("CAST(-2147483648 AS INT)", Types.INTEGER, Integer.MIN_VALUE, "-2147483648"),
        new Case("CAST('-9223372036854775808' AS BIGINT)", Types.BIGINT, Long.MIN_VALUE, "-9223372036854775808"),
        new Case("9223372036854775807", Types.BIGINT, Long.MAX_VALUE, "9223372036854775807"),
        new Case("CAST(127 AS TINYINT UNSIGNED)", Types.TINYINT, (byte) 127, "127"),
        new Case("CAST(2147483647 AS INT UNSIGNED)", Types.INTEGER, Integer.MAX_VALUE, "2147483647"),
        new Case("CAST(0.5 AS REAL)", Types.FLOAT, 0.5, "0.5"),
        new Case("CAST('1.7976931348623157e308' AS DOUBLE)", Types.DOUBLE, Double.MAX_VALUE, "1.7976931348623157E308"),
        new Case("CAST('4.9e-324' AS DOUBLE)", Types.DOUBLE, Double.MIN_VALUE, "4.9E-324"),
        new Case("CAST('NaN' AS DOUBLE)", Types.DOUBLE, Double.NaN, "NaN"),
        new Case("CAST('-Infinity' AS DOUBLE)", Types.DOUBLE, Double.NEGATIVE_INFINITY, "-Infinity"),
        decimal("CAST(1.10 AS DECIMAL(12,2))", "1.10"),
        decimal("CAST('-1234567890123456789012345678.0123456789' AS DECIMAL(38,10))",
            "-1234567890123456789012345678.0123456789"),
        decimal("CAST('99999999999999999999999999999999999999' AS DECIMAL(38,0))",
            "99999999999999999999999999999999999999"),
        decimal("arrow_cast('-0.0000000001', 'Decimal256(50, 10)')", "-1E-10"),
        new Case("true", Types.BOOLEAN, true, "true"),
        new Case("false", Types.BOOLEAN, false, "false"),
        new Case("'éàçœ Ÿ € 😀 n''est'", Types.VARCHAR, "éàçœ Ÿ € 😀 n'est", "éàçœ Ÿ € 😀 n'est"),
        new Case("''", Types.VARCHAR, "", ""),
        new Case("repeat('é', 100000)", Types.VARCHAR, "é".repeat(100_000), "é".repeat(100_000)),
        // Views are sent as what every driver reads.
        new Case("arrow_cast('é', 'Utf8View')", Types.VARCHAR, "é", "é"),
        new Case("arrow_cast('é', 'Dictionary(Int32, Utf8)')", Types.VARCHAR, "é", "é"),
        new Case("arrow_cast('é', 'LargeUtf8')", Types.LONGVARCHAR, "é", "é"),
        new Case("DATE '2024-02-29'", Types.DATE, java.sql.Date.valueOf("2024-02-29"), "2024-02-29"),
        new Case("DATE '1969-12-31'", Types.DATE, java.sql.Date.valueOf("1969-12-31"), "1969-12-31"),
        new Case("DATE '0001-01-01'", Types.DATE, java.sql.Date.valueOf("0001-01-01"), "0001-01-01"),
        new Case("DATE '9999-12-31'", Types.DATE, java.sql.Date.valueOf("9999-12-31"), "9999-12-31"),
        moment("TIMESTAMP '2024-02-29T12:34:56.123456789'", "2024-02-29 12:34:56.123456789"),
        moment("TIMESTAMP '1969-12-31T23:59:59.5'", "1969-12-31 23:59:59.5"),
        moment("arrow_cast('2024-07-01T12:00:00.123456', 'Timestamp(Microsecond, None)')", "2024-07-01 12:00:00.123456"),
        moment("arrow_cast('2024-07-01T12:00:00.123', 'Timestamp(Millisecond, None)')", "2024-07-01 12:00:00.123"),
        moment("arrow_cast('9999-12-31T23:59:59', 'Timestamp(Second, None)')", "9999-12-31 23:59:59.0"),
        new Case("NULL", Types.NULL, null, null));
  }

  private static Case decimal(String expression, String value) {
    BigDecimal number = new BigDecimal(value);
    return new Case(expression, Types.DECIMAL, number, number.toString());
  }

  private static Case moment(String expression, String value) {
    return new Case(expression, Types.TIMESTAMP, Timestamp.valueOf(value), value);
  }

  @ParameterizedTest(name = "{0}")
  @MethodSource("plainTypes")
  void plain(Case each) throws SQLException {
    assertEquals(each.type, read(each.expression, row -> row.getMetaData().getColumnType(1)));
    assertEquals(each.object, read(each.expression, row -> row.getObject(1)));
    assertEquals(each.text, read(each.expression, row -> row.getString(1)));
    assertEquals(each.object == null, read(each.expression, row -> {
      row.getObject(1);
      return row.wasNull();
    }));
  }

  @ParameterizedTest
  @CsvSource(delimiter = '|', value = {
      "INT|INTEGER", "BIGINT|BIGINT", "SMALLINT|SMALLINT", "TINYINT|TINYINT", "REAL|FLOAT", "DOUBLE|DOUBLE",
      "DECIMAL(12,2)|DECIMAL", "BOOLEAN|BOOLEAN", "VARCHAR|VARCHAR", "BYTEA|VARBINARY", "DATE|DATE", "TIME|TIME",
      "TIMESTAMP|TIMESTAMP"})
  void nullOfEachType(String sql, String name) throws SQLException {
    String expression = "CAST(NULL AS " + sql + ")";
    assertEquals(name, read(expression, row -> row.getMetaData().getColumnTypeName(1)));
    assertNull(read(expression, row -> row.getObject(1)));
    assertNull(read(expression, row -> row.getString(1)));
    assertEquals(true, read(expression, row -> {
      row.getString(1);
      return row.wasNull();
    }));
  }

  @Test
  void numbersThroughEachGetter() throws SQLException {
    String seven = "CAST(7 AS INT)";
    assertEquals((byte) 7, read(seven, row -> row.getByte(1)));
    assertEquals((short) 7, read(seven, row -> row.getShort(1)));
    assertEquals(7, read(seven, row -> row.getInt(1)));
    assertEquals(7L, read(seven, row -> row.getLong(1)));
    assertEquals(7f, read(seven, row -> row.getFloat(1)));
    assertEquals(7d, read(seven, row -> row.getDouble(1)));
    assertEquals(new BigDecimal("7"), read(seven, row -> row.getBigDecimal(1)));
    assertEquals(true, read(seven, row -> row.getBoolean(1)));
    assertEquals(0, read("CAST(NULL AS INT)", row -> row.getInt(1)));
    assertEquals(0.1f, read("CAST(0.1 AS REAL)", row -> row.getFloat(1)));
    assertEquals(1, read("true", row -> row.getInt(1)));
    assertThrows(SQLException.class, () -> read(seven, row -> row.getDate(1)));
    assertEquals(7, read("'7'", row -> row.getInt(1)));
    assertThrows(SQLException.class, () -> read("'seven'", row -> row.getInt(1)));
    // Driver: by name a REAL is a Float, by number a Double.
    assertEquals(0.5f, read("CAST(0.5 AS REAL)", row -> row.getObject("x")));
    assertEquals(0.5, read("CAST(0.5 AS REAL)", row -> row.getObject(1)));
    // Driver: it cuts what does not fit, and does not say so.
    assertEquals(0, read("CAST('-9223372036854775808' AS BIGINT)", row -> row.getInt(1)));
  }

  /** Driver: it takes unsigned integers for signed ones, so the upper half of each is wrong. */
  @Test
  void unsignedIntegersAreReadAsSigned() throws SQLException {
    assertEquals((byte) -1, read("CAST(255 AS TINYINT UNSIGNED)", row -> row.getObject(1)));
    assertEquals(-1L, read("CAST(255 AS TINYINT UNSIGNED)", row -> row.getLong(1)));
    assertEquals("18446744073709551615", read("CAST(255 AS TINYINT UNSIGNED)", row -> row.getString(1)));
    // Of 16 bits it reads the number, but not as an object.
    assertEquals(65535, read("CAST(65535 AS SMALLINT UNSIGNED)", row -> row.getInt(1)));
    assertEquals((short) -1, read("CAST(65535 AS SMALLINT UNSIGNED)", row -> row.getObject(1)));
    assertEquals(-1L, read("CAST(4294967295 AS INT UNSIGNED)", row -> row.getLong(1)));
    assertEquals(-1L, read("CAST('18446744073709551615' AS BIGINT UNSIGNED)", row -> row.getLong(1)));
    assertEquals(
        "18446744073709551615", read("CAST('18446744073709551615' AS BIGINT UNSIGNED)", row -> row.getString(1)));
  }

  /** Pixels are such integers: who reads them with JDBC casts them in SQL. */
  @Test
  void pixelsAreRightOnceCast() throws SQLException {
    String sql = "SELECT px, CAST(px AS INT) AS n FROM (SELECT dicom_window(content, rows => 64, columns => 64)"
        + "['pixels'][2080] AS px FROM imaging.instances) WHERE px > 127 LIMIT 1";
    try (Connection hospital = Hub.connect("hospital"); Statement statement = hospital.createStatement();
        ResultSet row = statement.executeQuery(sql)) {
      assertTrue(row.next());
      int pixel = row.getInt("n");
      assertTrue(pixel > 127 && pixel < 256, pixel + "");
      assertEquals(pixel - 256, row.getInt("px"));
    }
  }

  @Test
  void bytes() throws SQLException {
    byte[] bytes = {0, -1, 127, -128};
    for (String type : List.of("Binary", "LargeBinary", "FixedSizeBinary(4)", "BinaryView")) {
      String expression = "arrow_cast(X'00ff7f80', '" + type + "')";
      assertArrayEquals(bytes, (byte[]) read(expression, row -> row.getBytes(1)), type);
      assertArrayEquals(bytes, (byte[]) read(expression, row -> row.getObject(1)), type);
    }
    assertArrayEquals(new byte[0], (byte[]) read("X''", row -> row.getBytes(1)));
    assertEquals(Types.VARBINARY, read("X''", row -> row.getMetaData().getColumnType(1)));
    assertArrayEquals("é".getBytes(java.nio.charset.StandardCharsets.UTF_8), (byte[]) read("'é'", row -> row.getBytes(1)));
  }

  @Test
  void times() throws SQLException {
    for (String unit : List.of("Time32(Millisecond)", "Time64(Microsecond)", "Time64(Nanosecond)")) {
      String expression = "arrow_cast('12:34:56.789', '" + unit + "')";
      assertEquals(Types.TIME, read(expression, row -> row.getMetaData().getColumnType(1)));
      assertEquals(45_296_789L, read(expression, row -> row.getTime(1).getTime()), unit);
      assertEquals("12:34:56.789", read(expression, row -> row.getString(1)), unit);
    }
    assertEquals("00:00:00", read("TIME '00:00:00'", row -> row.getString(1)));
    // Driver: java.sql.Time has milliseconds only.
    assertEquals("23:59:59.999", read("TIME '23:59:59.999999999'", row -> row.getString(1)));
  }

  @Test
  void momentsInZones() throws SQLException {
    String expression = "arrow_cast(TIMESTAMP '2024-07-01T12:00:00.5', 'Timestamp(Microsecond, Some(\"UTC\"))')";
    assertEquals(Types.TIMESTAMP_WITH_TIMEZONE, read(expression, row -> row.getMetaData().getColumnType(1)));
    assertEquals("2024-07-01 12:00:00.5", read(expression, row -> row.getString(1)));
    assertEquals(Timestamp.valueOf("2024-07-01 12:00:00.5"), read(expression, row -> row.getTimestamp(1)));
    // Driver: its library has no object for this type.
    assertEquals(
        "not implemented",
        assertThrows(RuntimeException.class, () -> read(expression, row -> row.getObject(1))).getMessage());
    assertEquals(
        "2024-07-01 10:00:00.0",
        read("arrow_cast(arrow_cast('2024-07-01T10:00:00Z', 'Timestamp(Second, Some(\"UTC\"))'), "
            + "'Timestamp(Second, Some(\"+00:00\"))')", row -> row.getString(1)));
  }

  @Test
  void theTypeWithATimeZoneHasOne() throws SQLException {
    assertEquals(
        Types.TIMESTAMP_WITH_TIMEZONE,
        read("CAST('2024-07-01T12:00:00Z' AS TIMESTAMP WITH TIME ZONE)", row -> row.getMetaData().getColumnType(1)));
  }

  @Test
  void aDecimalLiteralKeepsItsDigits() throws SQLException {
    assertEquals(
        new BigDecimal("12345678901234567890.0123456789"),
        read("CAST(12345678901234567890.0123456789 AS DECIMAL(38,10))", row -> row.getBigDecimal(1)));
  }

  /** Driver: in a JVM outside UTC, it moves timestamps without zone and times by its offset, but not their text. */
  @Test
  void outsideUtcTheDriverMovesTimestamps() throws SQLException {
    TimeZone before = TimeZone.getDefault();
    TimeZone.setDefault(TimeZone.getTimeZone("Europe/Paris"));
    try (Connection paris = Hub.connect("researcher"); Statement statement = paris.createStatement();
        ResultSet row = statement.executeQuery(
            "SELECT TIMESTAMP '2024-07-01T12:00:00' AS ts, TIME '12:00:00' AS t, DATE '2024-07-01' AS d")) {
      assertTrue(row.next());
      assertEquals("2024-07-01 12:00:00.0", row.getString("ts"));
      assertEquals("2024-07-01 10:00:00.0", row.getTimestamp("ts").toString());
      assertEquals("13:00:00", row.getTime("t").toString());
      assertEquals("2024-07-01", row.getDate("d").toString());
      assertEquals("2024-07-01", row.getString("d"));
    } finally {
      TimeZone.setDefault(before);
    }
  }

  @Test
  void intervals() throws SQLException {
    assertEquals("P14M3DT4H5M6.789S", read("INTERVAL '14 months 3 days 4 hours 5 minutes 6.789 seconds'", row -> row.getString(1)));
    assertEquals(Types.JAVA_OBJECT, read("INTERVAL '-5 days'", row -> row.getMetaData().getColumnType(1)));
    assertEquals("P-5D", read("INTERVAL '-5 days'", row -> row.getString(1)));
    assertEquals("PT25H1M1.001S", read("arrow_cast(90061001, 'Duration(Millisecond)')", row -> row.getString(1)));
    assertEquals("PT24H", read("TIMESTAMP '2024-03-01' - TIMESTAMP '2024-02-29'", row -> row.getString(1)));
  }

  @Test
  void lists() throws SQLException {
    for (String type : List.of("List(Int64)", "LargeList(Int64)", "FixedSizeList(3, Int64)")) {
      String expression = "arrow_cast([1, NULL, 3], '" + type + "')";
      assertEquals(Types.ARRAY, read(expression, row -> row.getMetaData().getColumnType(1)));
      assertArrayEquals(new Object[] {1L, null, 3L}, (Object[]) read(expression, row -> row.getArray(1).getArray()), type);
      assertEquals("[1,null,3]", read(expression, row -> row.getString(1)));
    }
    assertEquals("VARCHAR", read("['é', NULL]", row -> row.getArray(1).getBaseTypeName()));
    // Driver: a text in a list is Arrow's Text, not a String.
    Object[] texts = (Object[]) read("['é', NULL]", row -> ((java.sql.Array) row.getObject(1)).getArray());
    assertEquals("[é, null]", Arrays.toString(texts));
    assertEquals("[[1,2],[3]]", read("[[1, 2], [3]]", row -> row.getString(1)));
    assertEquals("[]", read("make_array()", row -> row.getString(1)));
    assertNull(read("arrow_cast(NULL, 'List(Int64)')", row -> row.getArray(1)));
  }

  @Test
  void structsAndMaps() throws SQLException {
    String struct = "named_struct('a', 1, 'b', 'é', 'c', [1.5, NULL])";
    assertEquals(Types.JAVA_OBJECT, read(struct, row -> row.getMetaData().getColumnType(1)));
    Map<?, ?> values = (Map<?, ?>) read(struct, row -> row.getObject(1));
    assertEquals(1L, values.get("a"));
    assertEquals("é", String.valueOf(values.get("b")));
    assertEquals(Arrays.asList(1.5, null), values.get("c"));
    assertEquals("{\"a\":1,\"b\":\"é\",\"c\":[1.5,null]}", read(struct, row -> row.getString(1)));
    Map<?, ?> map = (Map<?, ?>) read("map(['a', 'b'], [1, NULL])", row -> row.getObject(1));
    assertEquals(2, map.size());
    assertEquals("{\"a\":1,\"b\":null}", map.toString());
  }

  /** Driver: it reads neither. */
  @Test
  void whatTheDriverDoesNotRead() {
    Hub.assertSays(
        "Unsupported ArrowType FloatingPoint(HALF)",
        assertThrows(SQLException.class, () -> read("arrow_cast(1.5, 'Float16')", row -> row.getObject(1))));
    Hub.assertSays(
        "Library only supports 128-bit and 256-bit decimal values",
        assertThrows(SQLException.class, () -> read("arrow_cast('1.5', 'Decimal64(10, 2)')", row -> row.getObject(1))));
  }

  @Test
  void columnsOfTheDemosData() throws SQLException {
    try (Connection hospital = Hub.connect("hospital"); Statement statement = hospital.createStatement()) {
      try (ResultSet row = statement.executeQuery("SELECT fs, leads, signal FROM cardio.ecg LIMIT 1")) {
        assertTrue(row.next());
        assertTrue(row.getInt("fs") > 0);
        assertEquals(
            "[I, II, III, aVR, aVL, aVF, V1, V2, V3, V4, V5, V6]",
            Arrays.toString((Object[]) row.getArray("leads").getArray()));
        Object[] signal = (Object[]) row.getArray("signal").getArray();
        assertEquals(12, signal.length);
      }
      try (ResultSet row = statement.executeQuery("SELECT content FROM imaging.instances LIMIT 1")) {
        assertTrue(row.next());
        byte[] file = row.getBytes(1);
        assertEquals("DICM", new String(file, 128, 4, java.nio.charset.StandardCharsets.US_ASCII));
      }
    }
  }
}
