package hubflight;

import static org.junit.jupiter.api.Assertions.*;

import java.math.BigDecimal;
import java.sql.*;
import java.util.*;
import java.util.concurrent.*;
import org.junit.jupiter.api.*;

/** Statements: prepared, changing, cancelled, timed out, closed early. */
@TestInstance(TestInstance.Lifecycle.PER_CLASS)
class StatementTest {
  /** Runs for minutes, and lets itself be stopped. */
  private static final String SLOW =
      "WITH RECURSIVE t AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM t WHERE n < 100000000) SELECT count(*) FROM t";

  /** The same, but it sends rows from the first second on. */
  private static final String LONG = "SELECT a.* FROM snds.er_prs_f a, snds.er_prs_f b";

  private Connection connection;

  @BeforeAll
  void connect() throws SQLException {
    connection = Hub.connect("researcher");
    Hub.update(connection, "DROP TABLE IF EXISTS space.jdbc_every");
    Hub.update(connection,
        "CREATE TABLE space.jdbc_every (i8 TINYINT, i16 SMALLINT, i32 INT, i64 BIGINT, f32 REAL, f64 DOUBLE, "
            + "dec DECIMAL(12,2), big DECIMAL(38,10), yes BOOLEAN, txt VARCHAR, bin BYTEA, day DATE, tim TIME, "
            + "ts TIMESTAMP)");
    assertEquals(1, Hub.update(connection,
        "INSERT INTO space.jdbc_every VALUES (-128, -32768, -2147483648, CAST('-9223372036854775808' AS BIGINT), 0.1, "
            + "0.1, -1234567890.12, CAST('-1234567890123456789012345678.0123456789' AS DECIMAL(38,10)), true, "
            + "'éàœ', X'00ff', DATE '2024-02-29', TIME '12:34:56.789', TIMESTAMP '2024-02-29T12:34:56.789')"));
  }

  @AfterAll
  void close() throws SQLException {
    Hub.update(connection, "DROP TABLE space.jdbc_every");
    connection.close();
  }

  private interface Setter {
    void set(PreparedStatement statement) throws SQLException;
  }

  /** How many rows of the table fit a condition with parameters. */
  private int found(String condition, Setter setter) throws SQLException {
    return found(connection, condition, setter);
  }

  private static int found(Connection connection, String condition, Setter setter) throws SQLException {
    try (PreparedStatement statement =
        connection.prepareStatement("SELECT count(*) FROM space.jdbc_every WHERE " + condition)) {
      setter.set(statement);
      try (ResultSet rows = statement.executeQuery()) {
        assertTrue(rows.next());
        return rows.getInt(1);
      }
    }
  }

  @Test
  void everyNumberBinds() throws SQLException {
    assertEquals(1, found("i8 = ?", s -> s.setByte(1, Byte.MIN_VALUE)));
    assertEquals(0, found("i8 = ?", s -> s.setByte(1, Byte.MAX_VALUE)));
    assertEquals(1, found("i16 = ?", s -> s.setShort(1, Short.MIN_VALUE)));
    assertEquals(0, found("i16 = ?", s -> s.setShort(1, Short.MAX_VALUE)));
    assertEquals(1, found("i32 = ?", s -> s.setInt(1, Integer.MIN_VALUE)));
    assertEquals(0, found("i32 = ?", s -> s.setInt(1, Integer.MAX_VALUE)));
    assertEquals(1, found("i64 = ?", s -> s.setLong(1, Long.MIN_VALUE)));
    assertEquals(0, found("i64 = ?", s -> s.setLong(1, Long.MAX_VALUE)));
    assertEquals(1, found("f32 = ?", s -> s.setFloat(1, 0.1f)));
    assertEquals(1, found("f64 = ?", s -> s.setDouble(1, 0.1)));
    assertEquals(0, found("f64 = ?", s -> s.setDouble(1, Math.nextUp(0.1))));
    assertEquals(1, found("dec = ?", s -> s.setBigDecimal(1, new BigDecimal("-1234567890.12"))));
    assertEquals(
        1, found("big = ?", s -> s.setBigDecimal(1, new BigDecimal("-1234567890123456789012345678.0123456789"))));
    assertEquals(1, found("yes = ?", s -> s.setBoolean(1, true)));
    assertEquals(0, found("yes = ?", s -> s.setBoolean(1, false)));
    assertEquals(1, found("i32 = ?", s -> s.setObject(1, Integer.MIN_VALUE, Types.INTEGER)));
    assertEquals(1, found("i32 = ?", s -> s.setObject(1, "-2147483648", Types.INTEGER)));
    assertEquals(1, found("i32 IN (?, ?)", s -> { s.setInt(1, 7); s.setInt(2, Integer.MIN_VALUE); }));
    assertEquals(1, found("i32 BETWEEN $1 AND $2", s -> { s.setInt(1, Integer.MIN_VALUE); s.setInt(2, 0); }));
  }

  @Test
  void textBytesAndDatesBind() throws SQLException {
    assertEquals(1, found("txt = ?", s -> s.setString(1, "éàœ")));
    assertEquals(1, found("txt = ?", s -> s.setNString(1, "éàœ")));
    assertEquals(1, found("txt = ?", s -> s.setObject(1, "éàœ")));
    assertEquals(1, found("txt LIKE ?", s -> s.setString(1, "é%")));
    assertEquals(0, found("txt = ?", s -> s.setString(1, "' OR 1=1 --")));
    assertEquals(1, found("bin = ?", s -> s.setBytes(1, new byte[] {0, -1})));
    assertEquals(0, found("bin = ?", s -> s.setBytes(1, new byte[0])));
    assertEquals(1, found("day = ?", s -> s.setDate(1, java.sql.Date.valueOf("2024-02-29"))));
    assertEquals(1, found("day > ?", s -> s.setDate(1, java.sql.Date.valueOf("1969-12-31"))));
  }

  @Test
  void nullBinds() throws SQLException {
    assertEquals(0, found("i32 = ?", s -> s.setNull(1, Types.INTEGER)));
    assertEquals(1, found("i32 IS DISTINCT FROM ?", s -> s.setNull(1, Types.INTEGER)));
    assertEquals(1, found("txt IS DISTINCT FROM ?", s -> s.setObject(1, null)));
  }

  /** Driver: what it does not convert, it refuses, and then leaks the vectors of the parameters. */
  @Test
  void whatTheDriverDoesNotBind() throws SQLException {
    Connection own = Hub.connect("researcher");
    assertBindFails(own, "scale must equal", "dec < ?", s -> s.setBigDecimal(1, new BigDecimal("1.5")));
    assertBindFails(own, "type DOUBLE is not yet supported", "dec < ?", s -> s.setDouble(1, 1.5));
    assertBindFails(own, "type STRING is not yet supported", "i32 = ?", s -> s.setString(1, "1"));
    assertBindFails(own, "type STRING is not yet supported", "day = ?", s -> s.setString(1, "2024-02-29"));
    assertBindFails(
        own, "type OBJECT is not yet supported", "day = ?", s -> s.setObject(1, java.time.LocalDate.of(2024, 2, 29)));
    assertBindFails(own, "because \"typedValue\" is null", "bin = ?", s -> s.setBinaryStream(1, new java.io.ByteArrayInputStream(new byte[1])));
    assertBindFails(own, "because \"typedValue\" is null", "i32 = ?", s -> {});
    assertBindFails(own, "parameter ordinal 2 out of range", "i32 = ?", s -> s.setInt(2, 1));
    Hub.assertSays("Memory was leaked", assertThrows(SQLException.class, own::close));
  }

  private static void assertBindFails(Connection own, String expected, String condition, Setter setter) {
    Hub.assertSays(expected, assertThrows(SQLException.class, () -> found(own, condition, setter)));
  }

  /** Driver: it writes milliseconds into vectors of nanoseconds (`TimestampAvaticaParameterConverter`). */
  @Test
  void timesBindAMillionTimesTooSmall() throws SQLException {
    assertEquals(0, found("ts = ?", s -> s.setTimestamp(1, Timestamp.valueOf("2024-02-29 12:34:56.789"))));
    assertEquals(1, found("ts > ?", s -> s.setTimestamp(1, Timestamp.valueOf("2200-01-01 00:00:00"))));
    assertEquals(0, found("tim = ?", s -> s.setTime(1, new Time(45_296_789))));
    assertEquals(1, found("tim > ?", s -> s.setTime(1, Time.valueOf("23:00:00"))));
  }

  @Test
  void parametersAreDescribed() throws SQLException {
    String sql = "SELECT count(*) FROM space.jdbc_every WHERE i32 = ? AND txt = ? AND dec = ? AND day = ? AND ts = ?";
    try (PreparedStatement statement = connection.prepareStatement(sql)) {
      ParameterMetaData parameters = statement.getParameterMetaData();
      List<Integer> types = new ArrayList<>();
      for (int i = 1; i <= parameters.getParameterCount(); i++) types.add(parameters.getParameterType(i));
      assertEquals(List.of(Types.INTEGER, Types.VARCHAR, Types.DECIMAL, Types.DATE, Types.TIMESTAMP), types);
      assertEquals(1, statement.getMetaData().getColumnCount());
      assertEquals(Types.BIGINT, statement.getMetaData().getColumnType(1));
    }
  }

  @Test
  void textOfADatasetBinds() throws SQLException {
    String sql = "SELECT count(*) FROM snds.t_mco_b WHERE dgn_pal LIKE ? AND dgn_pal <> ?";
    try (PreparedStatement statement = connection.prepareStatement(sql)) {
      statement.setString(1, "I%");
      statement.setString(2, "I500");
      try (ResultSet rows = statement.executeQuery()) {
        assertTrue(rows.next());
        assertEquals(
            Hub.one(connection, "SELECT count(*) FROM snds.t_mco_b WHERE dgn_pal LIKE 'I%' AND dgn_pal <> 'I500'"),
            rows.getString(1));
      }
    }
  }

  @Test
  void changesWithParameters() throws SQLException {
    Hub.update(connection, "CREATE OR REPLACE TABLE space.jdbc_bound (id INT, note VARCHAR)");
    try {
      try (PreparedStatement insert = connection.prepareStatement("INSERT INTO space.jdbc_bound VALUES (?, ?)")) {
        for (int id = 1; id <= 3; id++) {
          insert.setInt(1, id);
          insert.setString(2, "é" + id);
          insert.addBatch();
        }
        // Driver: one count for the whole batch.
        assertArrayEquals(new int[] {3}, insert.executeBatch());
      }
      try (PreparedStatement update = connection.prepareStatement("UPDATE space.jdbc_bound SET note = ? WHERE id = ?")) {
        update.setString(1, "à");
        update.setInt(2, 2);
        assertEquals(1, update.executeUpdate());
      }
      try (PreparedStatement delete = connection.prepareStatement("DELETE FROM space.jdbc_bound WHERE id >= ?")) {
        delete.setInt(1, 3);
        assertEquals(1, delete.executeUpdate());
      }
      assertEquals("é1,à", Hub.one(connection, "SELECT string_agg(note, ',' ORDER BY id) FROM space.jdbc_bound"));
    } finally {
      Hub.update(connection, "DROP TABLE space.jdbc_bound");
    }
  }

  @Test
  void castSaysTheTypeOfAParameter() throws SQLException {
    try (PreparedStatement statement = connection.prepareStatement("SELECT CAST(? AS INT) AS x, ?::VARCHAR AS y LIMIT ?")) {
      statement.setInt(1, 7);
      statement.setString(2, "é");
      statement.setLong(3, 1);
      assertEquals(List.of("7|é"), Hub.rows(statement.executeQuery(), "x", "y"));
    }
  }

  @Test
  void runsManyTimes() throws SQLException {
    String sql = "SELECT count(*) AS n FROM snds.t_mco_b WHERE ent_dat < ?";
    try (PreparedStatement statement = connection.prepareStatement(sql)) {
      int last = -1;
      for (int year = 1990; year < 2030; year++) {
        statement.setDate(1, java.sql.Date.valueOf(year + "-01-01"));
        try (ResultSet rows = statement.executeQuery()) {
          assertTrue(rows.next());
          assertTrue(rows.getInt("n") >= last);
          last = rows.getInt("n");
        }
      }
      assertEquals(Hub.one(connection, sql.replace("?", "DATE '2029-01-01'")), String.valueOf(last));
    }
  }

  @Test
  void manyStatementsAreOpenAtOnce() throws SQLException {
    List<PreparedStatement> open = new ArrayList<>();
    for (int i = 0; i < 50; i++) open.add(connection.prepareStatement("SELECT " + i + " + i8 AS x FROM space.jdbc_every"));
    for (int i = 0; i < 50; i++) assertEquals(List.of(String.valueOf(i - 128)), Hub.rows(open.get(i).executeQuery(), "x"));
    for (PreparedStatement statement : open) statement.close();
    // Closed ones leave room: 200 is the most that one person may keep open.
    for (int i = 0; i < 300; i++) connection.prepareStatement("SELECT 1").close();
  }

  @Test
  void changesAreCounted() throws SQLException {
    try (Statement statement = connection.createStatement()) {
      assertEquals(0, statement.executeUpdate("CREATE OR REPLACE TABLE space.jdbc_counts (i INT)"));
      assertEquals(3, statement.executeUpdate("INSERT INTO space.jdbc_counts VALUES (1), (2), (3)"));
      assertEquals(1L, statement.executeLargeUpdate("INSERT INTO space.jdbc_counts VALUES (4)"));
      assertEquals(3, statement.executeUpdate("UPDATE space.jdbc_counts SET i = i + 10 WHERE i > 1"));
      assertEquals(0, statement.executeUpdate("DELETE FROM space.jdbc_counts WHERE i > 100"));
      assertFalse(statement.execute("DELETE FROM space.jdbc_counts WHERE i = 1"));
      assertEquals(1, statement.getUpdateCount());
      assertNull(statement.getResultSet());
      try (PreparedStatement insert = connection.prepareStatement("INSERT INTO space.jdbc_counts VALUES (5)")) {
        assertEquals(1, insert.executeUpdate());
        assertEquals(1, insert.executeUpdate());
        // Driver: `execute` takes each prepared statement for a query. It runs, and its count is lost.
        assertTrue(insert.execute());
        assertEquals(-1, insert.getUpdateCount());
      }
      assertEquals("6|54", Hub.one(connection, "SELECT count(*) || '|' || sum(i) FROM space.jdbc_counts"));
      assertEquals(0, statement.executeUpdate("DROP TABLE space.jdbc_counts"));
    }
  }

  @Test
  void whatTheDriverDoesNotDo() throws SQLException {
    try (Statement statement = connection.createStatement()) {
      statement.addBatch("SELECT 1");
      // Driver: `prepareAndExecuteBatch` is a stub.
      assertThrows(NullPointerException.class, statement::executeBatch);
      assertThrows(
          SQLFeatureNotSupportedException.class, () -> statement.executeUpdate("SELECT 1", Statement.RETURN_GENERATED_KEYS));
      // Driver: it counts a query as -1.
      assertEquals(-1, statement.executeUpdate("SELECT 1"));
    }
    assertThrows(SQLFeatureNotSupportedException.class, () -> connection.prepareCall("CALL hub.cancel('x')"));
    assertThrows(SQLFeatureNotSupportedException.class, connection::setSavepoint);
    // Driver: both do nothing, and say nothing.
    connection.commit();
    connection.rollback();
  }

  @Test
  void aBatchOfQueriesIsRefused() throws SQLException {
    try (PreparedStatement statement = connection.prepareStatement("SELECT i8 FROM space.jdbc_every WHERE i8 = ?")) {
      statement.setInt(1, 1);
      statement.addBatch();
      Hub.assertSays("this statement is a query", assertThrows(SQLException.class, statement::executeBatch));
    }
  }

  @Test
  void rowsAreLimited() throws SQLException {
    try (Statement statement = connection.createStatement()) {
      statement.setMaxRows(7);
      statement.setFetchSize(3);
      assertEquals(7, Hub.rows(statement.executeQuery("SELECT ben_idt FROM snds.er_prs_f"), "ben_idt").size());
      statement.setMaxRows(0);
      assertEquals(
          Hub.one(connection, "SELECT count(*) FROM snds.er_prs_f"),
          String.valueOf(Hub.rows(statement.executeQuery("SELECT ben_idt FROM snds.er_prs_f"), "ben_idt").size()));
    }
  }

  @Test
  void aLargeResultComesWhole() throws SQLException {
    String sql = "SELECT a.rsa_num FROM snds.t_mco_b a, snds.t_mco_b b";
    long expected = Long.parseLong(Hub.one(connection, "SELECT count(*) * count(*) FROM snds.t_mco_b"));
    long count = 0;
    try (Statement statement = connection.createStatement(); ResultSet rows = statement.executeQuery(sql)) {
      while (rows.next()) count++;
    }
    assertEquals(expected, count);
  }

  /** The state of the newest query, once it has ended; questions about the hub are not of that kind. */
  private String ended() throws Exception {
    String sql = "SELECT state FROM hub.queries WHERE kind = 'query' AND person = 'researcher' "
        + "ORDER BY opened_at DESC LIMIT 1";
    for (int i = 0; i < 40; i++) {
      String state = Hub.one(connection, sql);
      if (!Set.of("open", "running").contains(state)) return state;
      Thread.sleep(100);
    }
    return "still running";
  }

  @Test
  @Timeout(20)
  void cancelsFromAnotherThread() throws Exception {
    try (Connection own = Hub.connect("researcher"); Statement statement = own.createStatement()) {
      Future<SQLException> running = Executors.newSingleThreadExecutor().submit(
          () -> assertThrows(SQLException.class, () -> statement.executeQuery(SLOW)));
      Thread.sleep(1000);
      statement.cancel();
      Hub.assertSays("Cancelling this FlightStream", running.get(5, TimeUnit.SECONDS));
      assertEquals("cancelled", ended());
      assertEquals("1", Hub.one(own, "SELECT 1"));
    }
  }

  @Test
  @Timeout(20)
  void cancelsWhileReading() throws Exception {
    try (Connection own = Hub.connect("researcher"); Statement statement = own.createStatement()) {
      ResultSet rows = statement.executeQuery(LONG);
      for (int i = 0; i < 10; i++) assertTrue(rows.next());
      statement.cancel();
      assertEquals("Statement canceled", assertThrows(SQLException.class, rows::next).getMessage());
      assertEquals("cancelled", ended());
    }
  }

  @Test
  @Timeout(20)
  void closesWhileReading() throws Exception {
    try (Connection own = Hub.connect("researcher")) {
      try (Statement statement = own.createStatement(); ResultSet rows = statement.executeQuery(LONG)) {
        for (int i = 0; i < 10; i++) assertTrue(rows.next());
      }
      assertEquals("cancelled", ended());
      assertEquals("1", Hub.one(own, "SELECT 1"));
    }
  }

  @Test
  @Timeout(20)
  void timesOut() throws Exception {
    try (Connection own = Hub.connect("researcher"); Statement statement = own.createStatement()) {
      statement.setQueryTimeout(1);
      assertEquals(1, statement.getQueryTimeout());
      long start = System.nanoTime();
      Hub.assertSays(
          "Query timed out after 1 SECONDS", assertThrows(SQLException.class, () -> statement.executeQuery(SLOW)));
      long millis = (System.nanoTime() - start) / 1_000_000;
      assertTrue(millis >= 1000 && millis < 5000, millis + " ms");
    }
    assertEquals("cancelled", ended());
  }

  /** What it runs on is the only server of the suite, which it would take with it. */
  @Test
  @Timeout(20)
  void aJoinOfManyPairsStopsToo() throws Exception {
    String pairs = "SELECT count(*) FROM snds.er_prs_f a, snds.er_prs_f b, snds.er_prs_f c "
        + "WHERE a.prs_ord_num + b.prs_ord_num + c.prs_ord_num = -1";
    try (Connection own = Hub.connect("researcher"); Statement statement = own.createStatement()) {
      statement.setQueryTimeout(1);
      assertThrows(SQLException.class, () -> statement.executeQuery(pairs));
    }
    try (Connection other = Hub.connect("hospital")) {
      assertEquals("1", Hub.one(other, "SELECT 1"));
    }
    assertEquals("cancelled", ended());
  }

  @Test
  void aClosedStatementIsClosed() throws SQLException {
    Statement statement = connection.createStatement();
    ResultSet rows = statement.executeQuery("SELECT 1");
    statement.close();
    statement.close();
    assertTrue(statement.isClosed());
    assertEquals("Statement closed", assertThrows(SQLException.class, () -> statement.executeQuery("SELECT 1")).getMessage());
    assertThrows(SQLException.class, rows::next);
  }

  @Test
  void statementsOfSeveralThreads() throws Exception {
    ExecutorService pool = Executors.newFixedThreadPool(4);
    try {
      List<Future<String>> answers = new ArrayList<>();
      for (int i = 0; i < 40; i++) {
        String sql = "SELECT " + i + " * count(*) FROM space.jdbc_every";
        answers.add(pool.submit(() -> Hub.one(connection, sql)));
      }
      for (int i = 0; i < 40; i++) assertEquals(String.valueOf(i), answers.get(i).get(20, TimeUnit.SECONDS));
    } finally {
      pool.shutdownNow();
    }
  }
}
