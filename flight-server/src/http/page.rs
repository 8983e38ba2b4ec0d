//! The page at `/`: one HTML text without scripts and without anything from elsewhere.

use std::fmt::Write;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use axum::http::HeaderValue;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hubflight_rights::dataset::Dataset;
use hubflight_udfs::WorkerStatus;
use sha2::{Digest, Sha256};

use super::About;
use super::connect::Target;

const STYLE: &str = include_str!("page.css");

/// Allows our one style, by its digest, and nothing else (CSP level 3).
static POLICY: LazyLock<HeaderValue> = LazyLock::new(|| {
    let digest = STANDARD.encode(Sha256::digest(STYLE));
    let policy = format!(
        "default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'; \
         frame-ancestors 'none'"
    );
    // Base64 and our own words are printable; the strictest policy stands in if they were not.
    HeaderValue::from_str(&policy).unwrap_or(HeaderValue::from_static("default-src 'none'"))
});

pub(super) fn content_security_policy() -> HeaderValue {
    POLICY.clone()
}

/// An account of the demo.
#[derive(Debug)]
pub(super) struct Account {
    pub id: String,
    pub name: String,
    pub projects: Vec<String>,
}

/// What the page shows.
#[derive(Debug)]
pub(super) struct Page {
    pub about: About,
    /// Path of the certificate that clients trust.
    pub ca: Option<String>,
    pub uptime: Duration,
    pub queries_running: usize,
    pub datasets: Vec<Arc<Dataset>>,
    pub workers: Vec<WorkerStatus>,
    /// Empty but in the demo.
    pub accounts: Vec<Account>,
}

impl Page {
    pub(super) fn html(&self) -> String {
        format!(
            "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
             <title>Hubflight</title>\n<style>{STYLE}</style>\n</head>\n<body>\n\
             <header>\n<h1>Hubflight</h1>\n\
             <p class=\"soft\">Authorised health data over Arrow Flight SQL{}</p>\n</header>\n\
             <main>\n{}{}{}{}{}</main>\n</body>\n</html>\n",
            if self.about.demo {
                ": demo with synthetic data"
            } else {
                ""
            },
            self.running(),
            self.datasets(),
            self.workers(),
            self.accounts(),
            self.connect(),
        )
    }

    fn running(&self) -> String {
        let About {
            flight, http, tls, ..
        } = self.about;
        let transport = if tls {
            "TLS"
        } else {
            "plaintext, on this machine only"
        };
        format!(
            "<section aria-labelledby=\"running\">\n<h2 id=\"running\">What is running</h2>\n<dl>\n\
             <dt>Version</dt><dd>{}</dd>\n<dt>Flight SQL</dt><dd>{flight} ({transport})</dd>\n\
             <dt>HTTP</dt><dd>{http}: <a href=\"/metrics\">metrics</a>, \
             <a href=\"/readyz\">readiness</a>, <a href=\"/healthz\">health</a></dd>\n\
             <dt>Up for</dt><dd>{}</dd>\n<dt>Queries running</dt><dd>{}</dd>\n</dl>\n</section>\n",
            env!("CARGO_PKG_VERSION"),
            in_words(self.uptime),
            self.queries_running,
        )
    }

    fn datasets(&self) -> String {
        let rows = self.datasets.iter().map(|dataset| {
            let title = if dataset.title.is_empty() {
                &dataset.name
            } else {
                &dataset.title
            };
            let origin = if dataset.synthetic {
                "synthetic"
            } else {
                "as delivered by its producer"
            };
            vec![
                title.clone(),
                dataset.version.to_string(),
                origin.to_owned(),
            ]
        });
        table(
            ("datasets", "Datasets"),
            "Who sees what of them is decided by each project's habilitations.",
            &["Title", "Version", "Data"],
            rows,
        )
    }

    fn workers(&self) -> String {
        let rows = self.workers.iter().map(|worker| {
            let device = worker.health.as_ref().map(|health| health.device.clone());
            vec![
                worker.address.clone(),
                worker.state.to_owned(),
                device.unwrap_or_else(|| "not known".into()),
                worker.in_flight_batches.to_string(),
            ]
        });
        table(
            ("workers", "Compute workers"),
            "They execute the functions on images, signals and reports.",
            &["Address", "State", "Device", "Batches in work"],
            rows,
        )
    }

    fn accounts(&self) -> String {
        if self.accounts.is_empty() {
            return String::new();
        }
        let rows = self.accounts.iter().map(|account| {
            let projects = account.projects.join(", ");
            vec![
                account.id.clone(),
                format!("{}-demo", account.id),
                account.name.clone(),
                projects,
            ]
        });
        table(
            ("accounts", "Demo accounts"),
            "Only the demo has passwords; elsewhere an access token takes their place.",
            &["User", "Password", "Who", "Projects (SQL catalogs)"],
            rows,
        )
    }

    fn connect(&self) -> String {
        // The account with one project needs no choice of a catalog.
        let user = self
            .accounts
            .iter()
            .find(|account| account.projects.len() == 1)
            .or(self.accounts.first());
        let user = user.map(|account| account.id.as_str());
        let target = Target::new(&self.about, self.ca.as_deref(), user);
        let mut html = String::from(
            "<section aria-labelledby=\"connect\">\n<h2 id=\"connect\">Connect</h2>\n",
        );
        for (index, recipe) in target.recipes().into_iter().enumerate() {
            // Writing to a text cannot fail.
            let _ = write!(
                html,
                "<h3 id=\"client-{index}\">{}</h3>\n<p class=\"soft\">{}</p>\n\
                 <pre tabindex=\"0\" aria-labelledby=\"client-{index}\">{}</pre>\n",
                escaped(recipe.title),
                escaped(recipe.note),
                escaped(&recipe.text)
            );
        }
        html + "</section>\n"
    }
}

/// A section with a table; every cell is escaped here.
fn table(
    (id, title): (&str, &str),
    caption: &str,
    head: &[&str],
    rows: impl Iterator<Item = Vec<String>>,
) -> String {
    let heads: String = head
        .iter()
        .map(|head| format!("<th scope=\"col\">{}</th>", escaped(head)))
        .collect();
    let mut body = String::new();
    for row in rows {
        let cells: String = row
            .iter()
            .map(|cell| format!("<td>{}</td>", escaped(cell)))
            .collect();
        // Writing to a text cannot fail.
        let _ = writeln!(body, "<tr>{cells}</tr>");
    }
    if body.is_empty() {
        body = format!("<tr><td colspan=\"{}\">none</td></tr>\n", head.len());
    }
    format!(
        "<section aria-labelledby=\"{id}\">\n<h2 id=\"{id}\">{title}</h2>\n<table>\n\
         <caption>{}</caption>\n<thead><tr>{heads}</tr></thead>\n<tbody>\n{body}</tbody>\n\
         </table>\n</section>\n",
        escaped(caption)
    )
}

/// Text as HTML content or as the value of a quoted attribute.
fn escaped(text: &str) -> String {
    let mut html = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => html.push_str("&amp;"),
            '<' => html.push_str("&lt;"),
            '>' => html.push_str("&gt;"),
            '"' => html.push_str("&quot;"),
            '\'' => html.push_str("&#39;"),
            other => html.push(other),
        }
    }
    html
}

/// A duration in its two largest units.
fn in_words(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, minutes) => format!("{minutes} min {} s", seconds % 60),
        (0, hours, minutes) => format!("{hours} h {minutes} min"),
        (days, hours, _) => format!("{days} d {hours} h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(demo: bool) -> Page {
        let dataset = Dataset {
            name: "snds".into(),
            title: "Claims <script>alert(1)</script> & \"stays\"".into(),
            producer: "p".into(),
            version: 3,
            synthetic: true,
            persons_min: hubflight_rights::dataset::PERSONS_MIN_DEFAULT,
            tables: Vec::new(),
        };
        let account = |id: &str, projects: &[&str]| Account {
            id: id.into(),
            name: "n".into(),
            projects: projects.iter().map(|&project| project.to_owned()).collect(),
        };
        Page {
            about: About {
                flight: ([127, 0, 0, 1], 31337).into(),
                http: ([127, 0, 0, 1], 8080).into(),
                tls: false,
                demo,
            },
            ca: None,
            uptime: Duration::from_secs(3 * 3600 + 125),
            queries_running: 7,
            datasets: vec![Arc::new(dataset)],
            workers: vec![WorkerStatus {
                address: "127.0.0.1:31338".into(),
                state: "unreachable",
                health: None,
                in_flight_batches: 4,
                last_error: None,
                checked_at: 0,
            }],
            accounts: match demo {
                true => vec![
                    account("two", &["a", "b"]),
                    account("researcher", &["readmission"]),
                ],
                false => Vec::new(),
            },
        }
    }

    #[test]
    fn what_is_running_is_shown_and_escaped() {
        let html = page(true).html();
        for part in [
            env!("CARGO_PKG_VERSION"),
            "<dd>3 h 2 min</dd>",
            "<dd>7</dd>",
            "Claims &lt;script&gt;alert(1)&lt;/script&gt; &amp; &quot;stays&quot;",
            "<td>synthetic</td>",
            "<td>unreachable</td>",
            "<td>researcher-demo</td>",
            "jdbc:arrow-flight-sql://127.0.0.1:31337/?useEncryption=false",
            "authenticate_basic_token(&quot;researcher&quot;",
        ] {
            assert!(html.contains(part), "{part}\n{html}");
        }
        assert!(!html.contains("<script"));
    }

    #[test]
    fn nobody_is_named_outside_the_demo() {
        let html = page(false).html();
        assert!(
            !html.contains("researcher") && !html.contains("-demo"),
            "{html}"
        );
        assert!(html.contains("YOUR-ACCESS-TOKEN"));
    }

    #[test]
    fn nothing_comes_from_elsewhere() {
        let html = page(true).html();
        for outside in ["src=", "<link", "@import", "url(", "<iframe", " style="] {
            assert!(!html.contains(outside), "{outside}");
        }
        let links = html.matches("href=").count();
        assert_eq!(
            links,
            html.matches("href=\"/").count(),
            "only our own paths"
        );
        let policy = content_security_policy();
        let policy = policy.to_str().expect("text");
        assert!(
            policy.starts_with("default-src 'none'; style-src 'sha256-"),
            "{policy}"
        );
        // The digest is of what stands between the tags, byte for byte.
        let (_, rest) = html.split_once("<style>").expect("a style");
        let (style, _) = rest.split_once("</style>").expect("its end");
        let digest = STANDARD.encode(Sha256::digest(style));
        assert!(policy.contains(&digest));
    }

    #[test]
    fn uptimes_are_short() {
        for (seconds, words) in [
            (0, "0 s"),
            (59, "59 s"),
            (61, "1 min 1 s"),
            (3600, "1 h 0 min"),
            (90_061, "1 d 1 h"),
        ] {
            assert_eq!(in_words(Duration::from_secs(seconds)), words);
        }
    }
}
