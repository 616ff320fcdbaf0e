use super::*;

fn parse(text: &str, environment: &[(&str, &str)]) -> Result<Config> {
    let environment = environment.iter().map(|(name, value)| (name.into(), value.into()));
    Config::parse(text, "icp.toml", environment)
}

#[test]
fn the_example_names_every_setting_with_its_default() {
    let example = include_str!("../../icp.example.toml");
    assert_eq!(parse(example, &[]).unwrap(), Config::default());
    let settings: String = example
        .lines()
        .filter_map(|line| line.strip_prefix('#'))
        .filter(|line| !line.starts_with(' ') && line.contains(" = "))
        .map(|line| format!("{line}\n"))
        .collect();
    let table: Table = settings.parse().unwrap();
    for (field, _) in FIELDS {
        assert!(table.contains_key(field), "{field}");
    }
    assert_eq!(table.len(), FIELDS.len());
    assert_eq!(parse(&settings, &[]).unwrap(), Config::default());
}

#[test]
fn the_environment_goes_over_the_file() {
    let config = parse(
        "listen = \"0.0.0.0:1\"\nlog = \"debug\"",
        &[
            ("ICP_LISTEN", "127.0.0.1:2"),
            ("ICP_ALLOW_LOOPBACK", "true"),
            ("ICP_MAX_IN_FLIGHT", "7"),
            ("ICP_CONFIG", "elsewhere"),
            ("PATH", "/bin"),
        ],
    )
    .unwrap();
    assert_eq!(config.listen.port(), 2);
    assert_eq!((config.log.as_str(), config.allow_loopback), ("debug", true));
    assert_eq!(config.engine().max_in_flight, 7);
}

#[test]
fn every_fault_is_named() {
    for (text, environment, says) in [
        ("lisen = \"x\"", None, "icp.toml: `lisen` is not a known setting; did you mean `listen`?"),
        ("listen = 5", None, "icp.toml: `listen`"),
        ("listen = \"x\"", None, "icp.toml: `listen`"),
        ("allow_loopback = \"yes\"", None, "icp.toml: `allow_loopback`"),
        ("synchronous = \"off\"", None, "expected `full` or `normal`"),
        ("max_in_flight = -1", None, "icp.toml: `max_in_flight`"),
        ("shutdown_seconds = 86401", None, "`shutdown_seconds` must be at most 86400"),
        ("idle_seconds = 0", None, "`idle_seconds` must be 1 to 86400"),
        ("unread_seconds = 86401", None, "`unread_seconds` must be 1 to 86400"),
        ("max_connections = 0", None, "`max_connections` must be at least 1"),
        ("otlp_percent = 101", None, "`otlp_percent` must be at most 100"),
        ("otlp_percent = 256", None, "icp.toml: `otlp_percent`"),
        ("otlp_endpoint = \"collector:4318\"", None, "write an address such as http://"),
        ("", Some(("ICP_OTLP_ENDPOINT", "http:")), "`ICP_OTLP_ENDPOINT`"),
        ("listen", None, "icp.toml is not toml"),
        ("store_url = 5", None, "icp.toml: `store_url`"),
        (
            "store_url = \"icp.db\"",
            None,
            "icp.toml: `store_url` is not acceptable: it has no scheme",
        ),
        ("", Some(("ICP_STORE_URL", "mongo://db")), "did you mean `mongodb`?"),
        ("", Some(("ICP_STORE_ULR", "sqlite:a")), "did you mean `ICP_STORE_URL`?"),
        ("database = \"a\"", Some(("ICP_STORE_URL", "sqlite:b")), "keep one of them"),
        (
            "",
            Some(("ICP_LISEN", "x")),
            "`ICP_LISEN` is not a known setting; did you mean `ICP_LISTEN`?",
        ),
        ("", Some(("ICP_LISTEN", "x")), "the environment: `ICP_LISTEN`"),
        ("", Some(("ICP_ALLOW_LOOPBACK", "yes")), "`ICP_ALLOW_LOOPBACK` must be `true` or `false`"),
        ("", Some(("ICP_MAX_IN_FLIGHT", "many")), "`ICP_MAX_IN_FLIGHT` must be a number"),
    ] {
        let environment: Vec<_> = environment.into_iter().collect();
        let error = parse(text, &environment).unwrap_err();
        assert_eq!(error.code(), Code::ConfigInvalid);
        assert!(error.message().contains(says), "{text} {environment:?}: {error}");
    }
}

#[test]
fn the_store_is_named_by_url_or_by_file() {
    for (text, environment, shown) in [
        ("", vec![], "sqlite:icp.db"),
        ("database = \"a.db\"", vec![], "sqlite:a.db"),
        ("store_url = \"sqlite://a.db\"", vec![], "sqlite:a.db"),
        ("database = \"a.db\"\nstore_url = \"sqlite:a.db\"", vec![], "sqlite:a.db"),
        ("database = \"a.db\"", vec![("ICP_DATABASE", "b.db")], "sqlite:b.db"),
        (
            "store_url = \"sqlite:a.db\"",
            vec![("ICP_STORE_URL", "postgres://icp:hush@db/icp")],
            "postgres://icp:***@db/icp",
        ),
    ] {
        let config = parse(text, &environment).unwrap();
        assert_eq!(config.store_url.to_string(), shown, "{text} {environment:?}");
        assert!(!format!("{config:?}").contains("hush"));
    }
}

#[test]
fn no_refusal_repeats_a_secret() {
    for text in [
        "listen = \"127.0.0.1:1\"\nstore_url = postgres://icp:hush@db/icp",
        "store_url = \"postgres://icp:hush@db/icp",
        "store_url = \"postgers://icp:hush@db/icp\"",
        "store_url = [\"postgres://icp:hush@db/icp\"]",
        "store.url = \"postgres://icp:hush@db/icp\"",
        "store_url = \"postgres://icp:hush@db/icp\"\ndatabase = \"a\"",
    ] {
        let error = parse(text, &[]).unwrap_err();
        assert!(!error.to_string().contains("hush"), "{text}: {error}");
    }
    let error = parse("log = \"debug\"\nstore_url = mysql://db", &[]).unwrap_err();
    assert!(error.message().contains("line 2"), "{error}");
}

#[test]
fn variables_of_others_are_left_alone() {
    let others = [
        ("ICP_TEST_POSTGRES_URL", "x"),
        ("ICP_SERVICES_DIR", "y"),
        ("ICP_SERVICE_HOST", "10.96.0.17"),
        ("ICP_SERVICE_PORT_HTTP", "80"),
        ("ICP_PORT", "tcp://10.96.0.17:80"),
        ("ICP_PORT_80_TCP_ADDR", "10.96.0.17"),
    ];
    assert_eq!(parse("", &others).unwrap(), Config::default());
}
