//! Roles and privileges.

use super::one;
use crate::statement::{GrantOn, ObjectName, Statement};

#[test]
fn roles_and_grants() {
    let role = one(
        "CREATE USER u WITH ENCRYPTED PASSWORD 'p' CONNECTION LIMIT 3 VALID UNTIL '2030-01-01' NOSUPERUSER",
    );
    let Statement::CreateRole { name, options } = role else {
        panic!("{role:?}")
    };
    assert_eq!(name, "u");
    assert!(!format!("{options:?}").contains("password"));
    assert_eq!(options.can_login, Some(true));
    assert_eq!(options.is_superuser, Some(false));
    assert_eq!(options.password, Some(Some("p".to_string())));
    assert_eq!(options.connection_limit, Some(Some(3)));
    assert_eq!(options.valid_until.as_deref(), Some("2030-01-01"));
    let cases = [
        (
            "GRANT ALL ON type TO PUBLIC",
            GrantOn::Relations(vec![named("type")]),
        ),
        (
            "REVOKE SELECT, INSERT ON TABLE a, b FROM x CASCADE",
            GrantOn::Relations(vec![named("a"), named("b")]),
        ),
        (
            "GRANT USAGE ON SCHEMA s TO GROUP x",
            GrantOn::Schemas(vec!["s".into()]),
        ),
        (
            "GRANT CONNECT, TEMP ON DATABASE rivermark TO x",
            GrantOn::Databases(vec!["rivermark".into()]),
        ),
        (
            "GRANT SELECT ON ALL TABLES IN SCHEMA s TO x",
            GrantOn::AllIn(vec!["s".into()]),
        ),
        (
            "ALTER DEFAULT PRIVILEGES FOR USER c IN SCHEMA s REVOKE ALL PRIVILEGES ON TABLES FROM x",
            GrantOn::Future {
                creators: vec!["c".into()],
                schemas: vec!["s".into()],
            },
        ),
    ];
    for (sql, expected) in cases {
        match one(sql) {
            Statement::Grant(grant) => assert_eq!(grant.on, expected, "{sql}"),
            other => panic!("{sql}: {other:?}"),
        }
    }
}

fn named(name: &str) -> ObjectName {
    ObjectName {
        schema: None,
        name: name.to_string(),
    }
}
