//! Connection strings, ready to paste into the clients that people use.

use super::About;

/// How to connect with one client.
#[derive(Debug)]
pub(super) struct Recipe {
    pub title: &'static str,
    /// What the client needs besides the text.
    pub note: &'static str,
    pub text: String,
}

/// What every recipe is filled with.
#[derive(Debug)]
pub(super) struct Target {
    /// Host and port, as clients reach them.
    authority: String,
    tls: bool,
    /// Path of the authority's certificate.
    ca: String,
    user: String,
    secret: String,
}

impl Target {
    pub(super) fn new(about: &About, ca: Option<&str>, user: Option<&str>) -> Self {
        let port = about.flight.port();
        let ip = about.flight.ip();
        // The demo's certificate is for `localhost` too, and so are most others; an address
        // that means every interface is none to connect to.
        let authority = match (about.tls, ip.is_loopback() || ip.is_unspecified()) {
            (true, true) => format!("localhost:{port}"),
            _ => about.flight.to_string(),
        };
        let secret = user.map(|user| format!("{user}-demo"));
        Self {
            authority,
            tls: about.tls,
            ca: ca.unwrap_or("/path/to/ca.pem").to_owned(),
            user: user.unwrap_or("YOUR-ID").to_owned(),
            secret: secret.unwrap_or_else(|| "YOUR-ACCESS-TOKEN".to_owned()),
        }
    }

    fn uri(&self) -> String {
        let scheme = if self.tls { "grpc+tls" } else { "grpc" };
        format!("{scheme}://{}", self.authority)
    }

    pub(super) fn recipes(&self) -> Vec<Recipe> {
        vec![
            Recipe {
                title: "DBeaver and other JDBC clients",
                note: "Driver “Apache Arrow Flight SQL”; user and password as below, and \
                       &catalog=PROJECT to choose among several projects. Outside DBeaver, Java 16 \
                       and later need the option \
                       --add-opens=java.base/java.nio=org.apache.arrow.memory.core,ALL-UNNAMED.",
                text: self.jdbc(),
            },
            Recipe {
                title: "Python, ADBC",
                note: "pip install adbc-driver-flightsql pyarrow",
                text: self.adbc(),
            },
            Recipe {
                title: "Python, polars",
                note: "pip install polars adbc-driver-flightsql pyarrow",
                text: self.polars(),
            },
            Recipe {
                title: "Python, pyarrow alone",
                note: "pip install pyarrow; plain Flight, so the Flight SQL command is written \
                       out",
                text: self.pyarrow(),
            },
            Recipe {
                title: "R",
                note: "install.packages(c(\"adbi\", \"adbcflightsql\"), repos = \
                       c(\"https://community.r-multiverse.org\", getOption(\"repos\")))",
                text: self.r(),
            },
        ]
    }

    fn jdbc(&self) -> String {
        let options = match self.tls {
            true => format!("useEncryption=true&tlsRootCerts={}", self.ca),
            false => "useEncryption=false".to_owned(),
        };
        format!(
            "jdbc:arrow-flight-sql://{}/?{options}\nuser: {}\npassword: {}",
            self.authority, self.user, self.secret
        )
    }

    /// The lines that open an ADBC connection, as Python.
    fn adbc_open(&self) -> Vec<String> {
        let mut lines = vec![
            "import adbc_driver_flightsql.dbapi as flight_sql".to_owned(),
            String::new(),
            "connection = flight_sql.connect(".to_owned(),
            format!("    {},", quoted(&self.uri())),
            "    db_kwargs={".to_owned(),
            format!("        \"username\": {},", quoted(&self.user)),
            format!("        \"password\": {},", quoted(&self.secret)),
        ];
        if self.tls {
            lines.push(format!(
                "        \"adbc.flight.sql.client_option.tls_root_certs\": open({}).read(),",
                quoted(&self.ca)
            ));
        }
        lines.extend([
            "    },".to_owned(),
            "    autocommit=True,".to_owned(),
            ")".to_owned(),
        ]);
        lines
    }

    fn adbc(&self) -> String {
        let mut lines = self.adbc_open();
        lines.extend([
            "with connection.cursor() as cursor:".to_owned(),
            "    cursor.execute(\"SELECT * FROM hub.datasets\")".to_owned(),
            "    print(cursor.fetch_arrow_table())".to_owned(),
        ]);
        lines.join("\n")
    }

    fn polars(&self) -> String {
        let mut lines = vec!["import polars".to_owned()];
        lines.extend(self.adbc_open());
        lines.push(
            "print(polars.read_database(\"SELECT * FROM hub.datasets\", connection))".to_owned(),
        );
        lines.join("\n")
    }

    fn pyarrow(&self) -> String {
        let trust = match self.tls {
            true => format!(", tls_root_certs=open({}, \"rb\").read()", quoted(&self.ca)),
            false => String::new(),
        };
        let open = format!("client = flight.connect({}{trust})", quoted(&self.uri()));
        let login = format!(
            "token = client.authenticate_basic_token({}, {})",
            quoted(&self.user),
            quoted(&self.secret)
        );
        [
            "from pyarrow import flight",
            "",
            "def field(number, value):  # one protobuf field of bytes, up to 16 KiB",
            "    size = len(value)",
            "    length = bytes([size]) if size < 128 else bytes([size & 127 | 128, size >> 7])",
            "    return bytes([number << 3 | 2]) + length + value",
            "",
            "def command(sql):",
            "    name = b\"type.googleapis.com/arrow.flight.protocol.sql.CommandStatementQuery\"",
            "    query = field(1, name) + field(2, field(1, sql.encode()))",
            "    return flight.FlightDescriptor.for_command(query)",
            "",
            &open,
            &login,
            "options = flight.FlightCallOptions(headers=[token])",
            "info = client.get_flight_info(command(\"SELECT * FROM hub.datasets\"), options)",
            "print(client.do_get(info.endpoints[0].ticket, options).read_all())",
        ]
        .join("\n")
    }

    fn r(&self) -> String {
        let mut lines = vec![
            "library(DBI)".to_owned(),
            "connection <- dbConnect(".to_owned(),
            "  adbi::adbi(\"adbcflightsql\"),".to_owned(),
            format!("  uri = {},", quoted(&self.uri())),
        ];
        if self.tls {
            lines.push(format!(
                "  `adbc.flight.sql.client_option.tls_root_certs` = paste(readLines({}), collapse = \
                 \"\\n\"),",
                quoted(&self.ca)
            ));
        }
        lines.extend([
            format!("  username = {},", quoted(&self.user)),
            format!("  password = {}", quoted(&self.secret)),
            ")".to_owned(),
            "dbGetQuery(connection, \"SELECT * FROM hub.datasets\")".to_owned(),
        ]);
        lines.join("\n")
    }
}

/// A text literal of Python and of R.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(about: &About, ca: Option<&str>) -> Vec<String> {
        let target = Target::new(about, ca, Some("researcher"));
        target
            .recipes()
            .into_iter()
            .map(|recipe| recipe.text)
            .collect()
    }

    #[test]
    fn plaintext_says_so_where_clients_expect_tls() {
        let about = About {
            flight: ([127, 0, 0, 1], 31337).into(),
            http: ([127, 0, 0, 1], 8080).into(),
            tls: false,
            demo: true,
        };
        let [jdbc, rest @ ..] = texts(&about, None)
            .try_into()
            .map(|texts: [String; 5]| texts)
            .expect("five");
        assert!(jdbc.starts_with("jdbc:arrow-flight-sql://127.0.0.1:31337/?useEncryption=false"));
        for text in rest {
            assert!(text.contains("\"grpc://127.0.0.1:31337\""), "{text}");
            assert!(
                text.contains("researcher-demo") && !text.contains("ca.pem"),
                "{text}"
            );
        }
    }

    #[test]
    fn tls_names_the_authority_and_a_host_of_the_certificate() {
        let about = About {
            flight: ([0, 0, 0, 0], 5).into(),
            http: ([127, 0, 0, 1], 8080).into(),
            tls: true,
            demo: false,
        };
        for text in texts(&about, Some("/a \"b\"/ca.pem")) {
            assert!(
                text.contains("localhost:5") && text.contains("ca.pem"),
                "{text}"
            );
            assert!(
                !text.contains("useEncryption=false") && !text.contains("grpc://"),
                "{text}"
            );
        }
        assert_eq!(quoted("a \"b\" \\"), "\"a \\\"b\\\" \\\\\"");
    }
}
