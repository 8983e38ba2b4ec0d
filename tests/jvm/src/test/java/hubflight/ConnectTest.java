package hubflight;

import static org.junit.jupiter.api.Assertions.*;

import java.sql.*;
import java.util.*;
import org.junit.jupiter.api.Test;

/** The ways in: passwords, tokens, TLS, a project, and what is refused. */
class ConnectTest {
  private static final String TLS = "jdbc:arrow-flight-sql://" + Hub.TLS_ADDRESS + "/?user=researcher&password=researcher-demo";

  private static void assertIs(String account, Connection connection) throws SQLException {
    // The newest statement that the hub knows of is this one.
    assertEquals(account, Hub.one(connection, "SELECT person FROM hub.queries ORDER BY opened_at DESC LIMIT 1"));
  }

  private static String token(Connection connection) throws SQLException {
    try (Statement statement = connection.createStatement();
        ResultSet made = statement.executeQuery("CALL hub.create_token('jdbc', 1)")) {
      assertTrue(made.next());
      return made.getString("token");
    }
  }

  @Test
  void aPasswordInProperties() throws SQLException {
    Properties properties = new Properties();
    properties.setProperty("user", "researcher");
    properties.setProperty("password", "researcher-demo");
    properties.setProperty("useEncryption", "false");
    try (Connection connection = DriverManager.getConnection("jdbc:arrow-flight-sql://" + Hub.ADDRESS, properties)) {
      assertIs("researcher", connection);
    }
  }

  @Test
  void aPasswordInTheUrl() throws SQLException {
    try (Connection connection = DriverManager.getConnection(Hub.url("&user=hospital&password=hospital-demo"))) {
      assertIs("hospital", connection);
    }
  }

  @Test
  void parametersBehindSemicolons() throws SQLException {
    String url = "jdbc:arrow-flight-sql://" + Hub.ADDRESS + ";useEncryption=false;user=startup;password=startup-demo";
    try (Connection connection = DriverManager.getConnection(url)) {
      assertIs("startup", connection);
    }
  }

  @Test
  void aTokenOfOnesOwn() throws SQLException {
    try (Connection login = Hub.connect("researcher")) {
      String token = token(login);
      try (Connection connection = DriverManager.getConnection(Hub.url("&token=" + token))) {
        assertIs("researcher", connection);
        assertEquals(List.of("readmission"), Hub.rows(connection.getMetaData().getCatalogs(), "TABLE_CAT"));
      }
      // It is a password too, for tools that know only those.
      try (Connection connection = DriverManager.getConnection(Hub.url(""), "researcher", token)) {
        assertIs("researcher", connection);
      }
      try (Statement statement = login.createStatement()) {
        statement.execute("CALL hub.revoke_token('" + token.split("_")[1] + "')");
      }
      assertUnauthenticated(() -> DriverManager.getConnection(Hub.url("&token=" + token)).getMetaData().getCatalogs());
    }
  }

  @Test
  void aWrongPasswordIsRefused() {
    assertUnauthenticated(() -> DriverManager.getConnection(Hub.url(""), "researcher", "wrong"));
    assertUnauthenticated(() -> DriverManager.getConnection(Hub.url(""), "nobody", "nobody-demo"));
    assertUnauthenticated(() -> DriverManager.getConnection(Hub.url("&token=hubpat_nothing")).getMetaData().getCatalogs());
  }

  /** The driver gives the status of a call only in the text of the cause, whose class it renames. */
  private static void assertUnauthenticated(org.junit.jupiter.api.function.Executable connect) {
    Throwable error = assertThrows(Exception.class, connect);
    while (error.getCause() != null) error = error.getCause();
    Hub.assertSays("UNAUTHENTICATED", new Exception(error.toString()));
  }

  @Test
  void tlsWithTheAuthority() throws SQLException {
    try (Connection connection = DriverManager.getConnection(TLS + "&tlsRootCerts=" + Hub.TLS_AUTHORITY)) {
      assertIs("researcher", connection);
    }
    // TLS is the driver's default, and `useEncryption=true` says the same.
    try (Connection connection =
        DriverManager.getConnection(TLS + "&useEncryption=true&tlsRootCerts=" + Hub.TLS_AUTHORITY)) {
      assertIs("researcher", connection);
    }
  }

  @Test
  void tlsByName() throws SQLException {
    String url = TLS.replace("127.0.0.1", "localhost");
    try (Connection connection = DriverManager.getConnection(url + "&tlsRootCerts=" + Hub.TLS_AUTHORITY)) {
      assertIs("researcher", connection);
    }
  }

  @Test
  void tlsOfAnUnknownAuthorityIsRefused() throws SQLException {
    Exception error = assertThrows(SQLException.class, () -> DriverManager.getConnection(TLS));
    Throwable cause = error;
    while (cause.getCause() != null) cause = cause.getCause();
    assertEquals("unable to find valid certification path to requested target", cause.getMessage());
    try (Connection connection = DriverManager.getConnection(TLS + "&disableCertificateVerification=true")) {
      assertIs("researcher", connection);
    }
  }

  @Test
  void plaintextToTlsAndTlsToPlaintextAreRefused() {
    assertThrows(SQLException.class, () -> DriverManager.getConnection(TLS + "&useEncryption=false"));
    String url = "jdbc:arrow-flight-sql://" + Hub.ADDRESS + "/?user=researcher&password=researcher-demo";
    assertThrows(SQLException.class, () -> DriverManager.getConnection(url));
  }

  @Test
  void aCatalogInTheUrlChoosesTheProject() throws SQLException {
    Connection connection = Hub.connect("consultant", "&catalog=ecg_ai");
    assertTrue(Integer.parseInt(Hub.one(connection, "SELECT count(*) FROM cardio.ecg")) > 0);
    Hub.assertSays(
        "table `snds.t_mco_b` does not exist in project `ecg_ai`",
        Hub.refused(connection, "SELECT count(*) FROM snds.t_mco_b"));
    Hub.closeWithCatalog(connection);
  }

  @Test
  void theOtherCatalogIsTheOtherProject() throws SQLException {
    Connection connection = Hub.connect("consultant", "&catalog=readmission");
    assertTrue(Integer.parseInt(Hub.one(connection, "SELECT count(*) FROM snds.t_mco_b")) > 0);
    Hub.closeWithCatalog(connection);
  }

  @Test
  void aMemberOfSeveralProjectsHasToChoose() throws SQLException {
    try (Connection connection = Hub.connect("consultant")) {
      Hub.assertSays("choose a project", Hub.refused(connection, "SELECT 1"));
      assertEquals(
          List.of("ecg_ai", "readmission"), Hub.rows(connection.getMetaData().getCatalogs(), "TABLE_CAT"));
    }
  }

  @Test
  void aForeignCatalogIsRefused() {
    Exception error = assertThrows(Exception.class, () -> Hub.connect("researcher", "&catalog=ecg_ai"));
    Hub.assertSays("Cannot set session option for catalog", error);
  }

  /** The driver sends what it does not know as headers of each call. */
  @Test
  void anUnknownParameterDoesNoHarm() throws SQLException {
    try (Connection connection = Hub.connect("researcher", "&application=DBeaver%20é&x-anything=1")) {
      assertEquals("1", Hub.one(connection, "SELECT 1"));
    }
  }

  @Test
  void aConnectionKnowsItsState() throws SQLException {
    Connection connection = Hub.connect("researcher");
    assertTrue(connection.isValid(3));
    assertTrue(connection.getAutoCommit());
    assertEquals(Connection.TRANSACTION_NONE, connection.getTransactionIsolation());
    assertNull(connection.getWarnings());
    // The driver asks the server for neither.
    assertNull(connection.getCatalog());
    assertNull(connection.getSchema());
    connection.close();
    connection.close();
    assertTrue(connection.isClosed());
    assertFalse(connection.isValid(3));
    assertEquals("Connection closed", assertThrows(SQLException.class, connection::createStatement).getMessage());
  }

  @Test
  void aClosedPortIsRefused() throws Exception {
    int port;
    try (var socket = new java.net.ServerSocket(0)) {
      port = socket.getLocalPort();
    }
    String url = "jdbc:arrow-flight-sql://127.0.0.1:" + port + "/?useEncryption=false&user=researcher&password=x";
    assertThrows(SQLException.class, () -> DriverManager.getConnection(url));
  }

  @Test
  void manyConnectionsAtOnce() throws SQLException {
    List<Connection> open = new ArrayList<>();
    for (int i = 0; i < 20; i++) open.add(Hub.connect(i % 2 == 0 ? "researcher" : "hospital"));
    for (int i = 0; i < 20; i++) assertIs(i % 2 == 0 ? "researcher" : "hospital", open.get(i));
    for (Connection connection : open) connection.close();
  }
}
