//! The operator's policies: what they can forbid, what they cannot open, and what is wrong in
//! their text.

use std::sync::Arc;

use chrono::TimeDelta;
use hubflight_rights::habilitation::{Habilitation, Mode};
use hubflight_rights::{
    Action, Asker, Decision, Denial, Granted, Request, RightsError, Rules, RulesFile, decide,
};

use crate::decisions::{asker, day, inside, version, zone};
use crate::hospital::hospital;

fn rules(text: &str) -> Rules {
    let name = "rules/operator.cedar";
    Rules::load(&[RulesFile { name, text }]).unwrap()
}

fn granted() -> Granted {
    version("a", 1, 0, 100, None)
}

/// What a policy of an operator's makes of a request for the hospital's stays by day 50.
fn check(rules: &Rules, edit: impl FnOnce(&mut Request<'_>, &mut Habilitation)) -> Option<Denial> {
    let dataset = hospital();
    let (who, zone) = (asker("ada", &["p"]), inside());
    let mut request = Request {
        who: &who,
        project: "p",
        dataset: "d",
        described: Some(&dataset),
        action: Action::ReadRows,
        zone: &zone,
        at: day(50),
    };
    let mut granted = granted();
    edit(&mut request, Arc::make_mut(&mut granted.habilitation));
    match decide(rules, &request, &[granted]) {
        Decision::Allow(_) => None,
        Decision::Deny(denial) => Some(denial),
    }
}

fn by(id: &str) -> Option<Denial> {
    let ids = vec![id.to_owned()];
    Some(Denial::Rule { ids })
}

fn person(id: &str) -> Asker {
    asker(id, &["p"])
}

/// One fact each: a policy that asks for it, and a request for which it does not hold.
#[test]
fn each_fact_can_forbid() {
    let forbid = |scope: &str, when: &str| rules(&format!("@id(\"r\") forbid ({scope}) {when};"));
    let anyone = "principal, action, resource";

    let of_person = forbid(r#"principal == Person::"eve", action, resource"#, "");
    assert_eq!(check(&of_person, |_, _| {}), None);
    let eve = person("eve");
    let one = asker("eve", &[]);
    let hers = |who: &Asker| {
        let (dataset, zone) = (hospital(), inside());
        let request = Request {
            who,
            project: "p",
            dataset: "d",
            described: Some(&dataset),
            action: Action::Browse,
            zone: &zone,
            at: day(50),
        };
        decide(&of_person, &request, &[granted()])
    };
    assert_eq!(Some(hers(&eve)), by("r").map(Decision::Deny));
    // The hub's own reason is told where there is one.
    assert_eq!(hers(&one), Decision::Deny(Denial::NoHabilitation));

    let of_dataset = forbid(r#"principal, action, resource == Dataset::"d""#, "");
    assert_eq!(check(&of_dataset, |_, _| {}), by("r"));
    let of_other = forbid(r#"principal, action, resource == Dataset::"e""#, "");
    assert_eq!(check(&of_other, |_, _| {}), None);
    let of_action = forbid(r#"principal, action == Action::"export", resource"#, "");
    assert_eq!(check(&of_action, |_, _| {}), None);
    assert_eq!(check(&of_action, |r, _| r.action = Action::Export), by("r"));

    for (condition, holds) in [
        (r#"resource.producer == "test""#, true),
        (r#"resource.synthetic"#, true),
        (r#"principal in Project::"p""#, true),
        (r#"principal in Project::"q""#, false),
        (r#"context.project.organisation == "hospital""#, true),
        (r#"context.project == Project::"q""#, false),
        (r#"principal.roles.contains("audit")"#, false),
        (r#"principal.id like "a*""#, true),
        (r#"context.zone == "outside""#, false),
        (r#"context.login.method == "password""#, true),
        (r#"context.login.second_factor == false"#, false),
        (r#"context.habilitation.decision == "test""#, true),
        (r#"context.habilitation.mode == "aggregate""#, false),
        (r#"context.habilitation.version > 1"#, false),
        (r#"context.habilitation has zones"#, false),
        (r#"context.now > datetime("1970-02-19")"#, true),
        (r#"context.now.toTime() >= duration("8h")"#, false),
        (
            r#"context.habilitation.valid_to.durationSince(context.now) < duration("51d")"#,
            true,
        ),
    ] {
        let rules = forbid(anyone, &format!("when {{ {condition} }}"));
        let expected = if holds { by("r") } else { None };
        assert_eq!(check(&rules, |_, _| {}), expected, "{condition}");
    }

    let at_night = forbid(anyone, r#"when { context.now.toTime() < duration("6h") }"#);
    assert_eq!(check(&at_night, |_, _| {}), by("r"));
    let six = day(50) + TimeDelta::hours(6);
    assert_eq!(check(&at_night, |r, _| r.at = six), None);
    let before_six = six - TimeDelta::nanoseconds(1);
    assert_eq!(check(&at_night, |r, _| r.at = before_six), by("r"));
}

#[test]
fn several_policies_are_all_named() {
    let rules = rules(
        r#"@id("b") forbid (principal, action, resource);
           @id("c") forbid (principal, action, resource) when { context.zone == "chu" };
           @id("a") forbid (principal, action, resource);"#,
    );
    let ids = vec!["a".to_owned(), "b".to_owned()];
    let denial = Denial::Rule { ids };
    assert!(denial.to_string().contains("`a`, `b`"), "{denial}");
    assert!(!denial.hides_dataset());
    assert_eq!(check(&rules, |_, _| {}), Some(denial));
}

/// Cedar passes over a policy that cannot be evaluated, also one that would have forbidden.
#[test]
fn a_policy_that_cannot_be_evaluated_denies() {
    let overflow = "context.habilitation.version + 9223372036854775807 > 0";
    let far = r#"context.now.offset(duration("106751991167d")) > context.now"#;
    for condition in [overflow, far] {
        for clause in ["when", "unless"] {
            let text = format!(
                "@id(\"far\") forbid (principal, action == Action::\"read_rows\", resource) \
                 {clause} {{ {condition} }};"
            );
            let ids = vec!["far".to_owned()];
            let denial = check(&rules(&text), |_, _| {});
            assert_eq!(denial, Some(Denial::Undecided { ids }), "{text}");
            // Where it does not apply it is not evaluated.
            assert_eq!(check(&rules(&text), |r, _| r.action = Action::Browse), None);
        }
    }
    // A dataset that nobody describes has no producer to ask for.
    let rules = rules(
        r#"@id("p") forbid (principal, action, resource) when { resource.producer == "x" };"#,
    );
    let ids = vec!["p".to_owned()];
    let undescribed = check(&rules, |r, _| r.described = None);
    assert_eq!(undescribed, Some(Denial::Undecided { ids }));
    // What the hub itself forbids is told as ever.
    let failing = crate::policies::rules(&format!(
        "@id(\"far\") forbid (principal, action, resource) when {{ {overflow} }};"
    ));
    let aggregate = check(&failing, |_, h| h.mode = Mode::Aggregate);
    assert_eq!(aggregate, Some(Denial::AggregateOnly));
}

/// Names are parts of entities, never policy text, whatever they are written like.
#[test]
fn hostile_names_are_only_names() {
    let hostile = [
        r#"eve"#,
        r#"ada" || true || ""#,
        r#"ada\"#,
        r#"Person::"ada""#,
        r#"ada", action, resource) ; permit(principal"#,
        "ada\u{202e}",
        "аda",
        "ada\0",
        "",
        "ada ",
        "ADA",
        "{{ada}}",
        "?principal",
    ];
    let only_ada = rules(
        r#"@id("only") forbid (principal, action, resource) unless { principal == Person::"ada" };"#,
    );
    let no_p = rules(
        r#"@id("no-p") forbid (principal, action, resource) when { principal in Project::"p" };"#,
    );
    let zone = inside();
    let open = |rules: &Rules, who: &Asker, project: &str, dataset: &str| {
        let mut granted = granted();
        let habilitation = Arc::make_mut(&mut granted.habilitation);
        habilitation.project = project.to_owned();
        habilitation.dataset = dataset.to_owned();
        let request = Request {
            who,
            project,
            dataset,
            described: None,
            action: Action::ReadRows,
            zone: &zone,
            at: day(50),
        };
        decide(rules, &request, &[granted])
    };
    assert!(matches!(
        open(&only_ada, &person("ada"), "p", "d"),
        Decision::Allow(_)
    ));
    for name in hostile {
        let denied = by("only").map(Decision::Deny);
        assert_eq!(
            Some(open(&only_ada, &person(name), "p", "d")),
            denied,
            "{name:?}"
        );
        // As a project's or a dataset's name it neither is `p` nor brings anything down.
        let who = asker("ada", &[name]);
        let decided = open(&no_p, &who, name, name);
        assert!(
            matches!(decided, Decision::Allow(_)),
            "{name:?}: {decided:?}"
        );
        assert_eq!(
            open(&no_p, &who, "p", name),
            Decision::Deny(Denial::NoHabilitation)
        );
    }
}

/// Each way in which a file is wrong, with its line and policy.
#[test]
fn what_is_wrong_in_a_file_is_said_with_its_place() {
    let check = |text: &str, line: usize, policy: Option<&str>, says: &str| {
        let before = RulesFile {
            name: "rules/first.cedar",
            text: "@id(\"first\") forbid (principal, action, resource) when { resource.synthetic };",
        };
        let file = RulesFile {
            name: "rules/broken.cedar",
            text,
        };
        let error = Rules::load(&[before, file]).expect_err(text);
        let RightsError::Policy {
            file,
            line: at,
            policy: of,
            problem,
        } = &error
        else {
            panic!("{error}");
        };
        assert_eq!(
            (file.as_str(), *at),
            ("rules/broken.cedar", line),
            "{error}"
        );
        assert_eq!(of.as_deref(), policy, "{error}");
        assert!(problem.contains(says), "{error}");
        assert!(
            error.to_string().contains(&format!("line {line}")),
            "{error}"
        );
    };
    let ok = "@id(\"ok\")\nforbid (principal, action, resource) when { resource.synthetic };\n";
    // Text that is none.
    check(
        "forbid (principal action, resource);",
        1,
        None,
        "unexpected token",
    );
    check(
        &format!("{ok}\n@id(\"b\") forbid (principal, action"),
        4,
        None,
        "end of input",
    );
    check(
        "@id(\"a\")\nforbid (principal, action, resource)\nwhen { 'x' };",
        3,
        None,
        "invalid",
    );
    // Names.
    check(
        &format!("{ok}forbid (principal, action, resource);"),
        3,
        None,
        "@id",
    );
    check(
        "@id(\"a b\") forbid (principal, action, resource);",
        1,
        None,
        "@id",
    );
    check(
        "@id(\"\") forbid (principal, action, resource);",
        1,
        None,
        "@id",
    );
    let long = format!(
        "@id(\"{}\") forbid (principal, action, resource);",
        "a".repeat(65)
    );
    check(&long, 1, None, "@id");
    let own = "@id(\"hub.member\") forbid (principal, action, resource);";
    check(own, 1, Some("hub.member"), "hub's own");
    let again = "@id(\"first\") forbid (principal, action, resource);";
    check(again, 1, Some("first"), "rules/first.cedar");
    // What cannot be.
    let permits =
        format!("{ok}@id(\"p\") permit (principal == Person::\"eve\", action, resource);");
    check(&permits, 3, Some("p"), "write `forbid`");
    let slot = "@id(\"s\") forbid (principal == ?principal, action, resource);";
    check(slot, 1, Some("s"), "slot");
    // What the schema does not know, each in line 3 but for warnings.
    for (condition, says) in [
        ("context.purpose == \"x\"", "purpose"),
        ("principal.email == \"x\"", "email"),
        ("resource.rows > 3", "rows"),
        ("context.habilitation.zones.contains(\"x\")", "optional"),
        ("context.now == 3", "type"),
        ("context.now > datetime(\"yesterday\")", "datetime"),
        ("principal == User::\"eve\"", "User"),
        ("principal is Group", "Group"),
        ("context.zone.isIpv4()", "ipaddr"),
        ("action == Action::\"write\"", "write"),
    ] {
        let text =
            format!("@id(\"x\")\nforbid (principal, action, resource)\nwhen {{ {condition} }};");
        check(&text, 3, Some("x"), says);
    }
    let unknown = "@id(\"x\")\nforbid (principal, action == Action::\"write\", resource);";
    check(unknown, 2, Some("x"), "write");
    // What never applies was meant to.
    let never =
        format!("{ok}@id(\"never\")\nforbid (principal, action, resource)\nwhen {{ false }};");
    let error = Rules::load(&[RulesFile {
        name: "f",
        text: &never,
    }])
    .expect_err("warned");
    assert!(error.to_string().contains("policy `never`"), "{error}");
    let large = format!("// {}\n{ok}", "x".repeat(1 << 20));
    check(&large, 1, None, "split");
}

/// A text that is too deep ends in an error that says so, not in the end of the process; one that
/// is as deep as it may be is checked and decided on, with the stack of a thread of a test.
#[test]
fn deep_texts_are_survived() {
    let load = |condition: &str| {
        let text =
            format!("@id(\"deep\") forbid (principal, action, resource)\nwhen {{ {condition} }};");
        let name = "deep.cedar";
        let loaded = Rules::load(&[RulesFile { name, text: &text }]);
        loaded.map(|rules| drop(check(&rules, |_, _| {})))
    };
    let texts = |depth: usize| {
        let (open, close) = ("(".repeat(depth), ")".repeat(depth));
        let (not, sum) = ("!".repeat(depth), "1 + ".repeat(depth));
        let and = "resource.synthetic && ".repeat(depth);
        let chosen = "if resource.synthetic then true else ".repeat(depth);
        let lists = "[".repeat(depth) + &"]".repeat(depth);
        let records = "{a:".repeat(depth) + "1" + &"}".repeat(depth);
        [
            format!("{open}resource.synthetic{close}"),
            format!("{not}resource.synthetic"),
            format!("{sum}1 > context.habilitation.version"),
            format!("{and} true"),
            format!("{chosen} true"),
            format!("{lists} == {lists}"),
            format!("{records} == {records}"),
            format!("context{}", ".a".repeat(depth)),
            "-".repeat(depth) + "1 == 1",
            format!("resource in {open}resource{close}"),
        ]
    };
    for depth in [1_000, 10_000, 200_000] {
        for condition in texts(depth) {
            let error = load(&condition).expect_err("too deep").to_string();
            let named = ["operators", "brackets", "split"];
            assert!(named.iter().any(|word| error.contains(word)), "{error}");
            assert!(error.contains("deep.cedar"), "{error}");
        }
    }
    for depth in [1, 8, 15, 16, 17, 45, 66, 67, 100, 199, 200] {
        for condition in texts(depth) {
            // Some are no policies, or of other types: that is said, or they are decided on.
            let _ = load(&condition);
        }
    }
    load(
        "resource.synthetic && "
            .repeat(60)
            .replace("&& ", "&&\n")
            .trim_end_matches("&&\n"),
    )
    .expect("a long policy");
    // Many names are no depth, nor are texts and comments.
    let persons: Vec<String> = (0..5_000)
        .map(|n| format!("Person::\"((p{n}\\\"++\""))
        .collect();
    load(
        &format!("[{}].contains(principal) // (((", persons.join(", "))
            .replace(" // (((", "\n// ((((\n"),
    )
    .expect("a long list");
}

#[test]
fn zones_of_habilitations_can_be_asked_for() {
    let rules = rules(
        r#"@id("home") forbid (principal, action, resource)
           unless { context.habilitation has zones && context.habilitation.zones.contains("chu") };"#,
    );
    assert_eq!(check(&rules, |_, _| {}), by("home"));
    let opened = check(&rules, |_, h| h.zones = Some(vec![zone("chu"), inside()]));
    assert_eq!(opened, None);
}
