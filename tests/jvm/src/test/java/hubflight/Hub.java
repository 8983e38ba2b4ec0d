package hubflight;

import static org.junit.jupiter.api.Assertions.*;

import java.sql.*;
import java.util.*;

/** The running servers, and how the tests connect and read. */
final class Hub {
  /** A server without TLS; its accounts' passwords are the name and `-demo`. */
  static final String ADDRESS = System.getenv("HUBFLIGHT_ADDRESS");

  /** The same with TLS, and the authority that signed its certificate. */
  static final String TLS_ADDRESS = System.getenv("HUBFLIGHT_TLS_ADDRESS");

  static final String TLS_AUTHORITY = System.getenv("HUBFLIGHT_TLS_AUTHORITY");

  private Hub() {}

  static String url(String parameters) {
    return "jdbc:arrow-flight-sql://" + ADDRESS + "/?useEncryption=false" + parameters;
  }

  static Connection connect(String account) throws SQLException {
    return connect(account, "");
  }

  static Connection connect(String account, String parameters) throws SQLException {
    return DriverManager.getConnection(url(parameters), account, account + "-demo");
  }

  /** Each row as its values, as text, with `|` between them. */
  static List<String> rows(ResultSet result, String... columns) throws SQLException {
    List<String> rows = new ArrayList<>();
    try (result) {
      while (result.next()) {
        List<String> values = new ArrayList<>();
        for (String column : columns) values.add(result.getString(column));
        rows.add(String.join("|", values.stream().map(String::valueOf).toList()));
      }
    }
    return rows;
  }

  /** The first column of the only row, as text. */
  static String one(Connection connection, String sql) throws SQLException {
    try (Statement statement = connection.createStatement(); ResultSet rows = statement.executeQuery(sql)) {
      assertTrue(rows.next(), "no row");
      String value = rows.getString(1);
      assertFalse(rows.next(), "a second row");
      return value;
    }
  }

  static int update(Connection connection, String sql) throws SQLException {
    try (Statement statement = connection.createStatement()) {
      return statement.executeUpdate(sql);
    }
  }

  static SQLException refused(Connection connection, String sql) throws SQLException {
    try (Statement statement = connection.createStatement()) {
      return assertThrows(SQLException.class, () -> statement.executeQuery(sql));
    }
  }

  static void assertSays(String expected, Throwable error) {
    assertTrue(String.valueOf(error.getMessage()).contains(expected), String.valueOf(error.getMessage()));
  }

  /** Closes a connection that chose a catalog, and says why that fails. */
  static void closeWithCatalog(Connection connection) {
    // Driver 18.3 closes its client twice (`ArrowFlightConnection.close`), and where a catalog was
    // chosen the second CloseSession finds the channel shut. The session has ended by then.
    assertSays("Channel shutdown invoked", assertThrows(SQLException.class, connection::close));
  }
}
