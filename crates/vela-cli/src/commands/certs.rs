use vela_protocol::{CertificateState, CertificateStatus};

use crate::args::{App, Certs};
use crate::context::Context;
use crate::failure::{Cause, Failure};
use crate::render::{date, days, printable, table};

pub(crate) async fn run(context: &Context, args: Certs) -> Result<(), Failure> {
    match args {
        Certs::List => list(context).await,
        Certs::Show(app) => show(context, app).await,
        Certs::Renew(app) => renew(context, app).await,
    }
}

async fn list(context: &Context) -> Result<(), Failure> {
    let certificates = context.server_client()?.certificates().await?;
    if context.screen.is_json() {
        return context.screen.json(&certificates);
    }
    if certificates.is_empty() {
        context.screen.message("this server does not serve HTTPS");
        return Ok(());
    }
    for one in &certificates {
        for warning in &one.warnings {
            context
                .screen
                .warning(&printable(&format!("{}: {warning}", one.id)));
        }
    }
    context.screen.result(&certificates_table(&certificates))
}

async fn show(context: &Context, app: App) -> Result<(), Failure> {
    let (app, client) = context.target(app.app)?;
    // Tells a name that is misspelt from an app without certificates.
    client.status(app.as_str()).await?;
    let mut certificates = client.certificates().await?;
    certificates.retain(|one| one.apps.iter().any(|name| *name == *app.as_str()));
    if context.screen.is_json() {
        return context.screen.json(&certificates);
    }
    if certificates.is_empty() {
        context
            .screen
            .message(&format!("`{app}` is not served over HTTPS"));
        return Ok(());
    }
    let blocks: Vec<String> = certificates.iter().map(details).collect();
    context.screen.result(&blocks.join("\n\n"))
}

async fn renew(context: &Context, app: App) -> Result<(), Failure> {
    let (app, client) = context.target(app.app)?;
    let renewed = client.renew_certificate(app.as_str()).await?;
    if let CertificateState::Failing {
        error,
        hint,
        retry_at,
        ..
    } = renewed.state
    {
        let mut failure = Failure::new(format!("the certificate of `{app}` could not be renewed"));
        if let Cause::Report(report) = &mut failure.cause {
            report.causes = vec![error];
            report.hint = hint;
        }
        let serves = match renewed.certificate {
            Some(present) => format!("the present one is valid until {}", date(present.not_after)),
            None => "there is none".to_owned(),
        };
        return Err(
            failure.with_state(format!("{serves}; it is tried again at {}", date(retry_at)))
        );
    }
    if context.screen.is_json() {
        return context.screen.json(&renewed);
    }
    let until = renewed.certificate.map(|new| {
        let left = days(new.days_left);
        format!(", valid until {} ({left})", date(new.not_after))
    });
    context.screen.result(&printable(&format!(
        "`{app}` has a new certificate for {}{}",
        renewed.names.join(", "),
        until.unwrap_or_default()
    )))
}

fn certificates_table(certificates: &[CertificateStatus]) -> String {
    table(
        ["names", "apps", "origin", "state", "until", "left"],
        certificates.iter().map(|one| {
            let of = one.certificate.as_ref();
            [
                one.names.join(", "),
                one.apps.join(", "),
                one.origin.as_str().to_owned(),
                one.state.as_str().to_owned(),
                of.map(|of| date(of.not_after)).unwrap_or_default(),
                of.map(|of| days(of.days_left)).unwrap_or_default(),
            ]
        }),
    )
}

/// A line a fact.
fn details(one: &CertificateStatus) -> String {
    let of = one.certificate.as_ref();
    let state = match &one.state {
        CertificateState::Valid {
            renewal_at: Some(at),
        } => format!("valid, renewed at {}", date(*at)),
        CertificateState::Failing {
            failures, retry_at, ..
        } => format!("failing, {failures} times; next try {}", date(*retry_at)),
        state => state.as_str().to_owned(),
    };
    let facts = [
        (
            "names",
            Some(one.names.join(", ")).filter(|names| !names.is_empty()),
        ),
        ("origin", Some(one.origin.as_str().to_owned())),
        ("id", Some(one.id.clone())),
        ("state", Some(state)),
        ("issuer", of.map(|of| of.issuer.clone())),
        ("serial", of.map(|of| of.serial.clone())),
        ("key", of.map(|of| of.key.clone())),
        ("from", of.map(|of| date(of.not_before))),
        (
            "until",
            of.map(|of| format!("{} ({})", date(of.not_after), days(of.days_left))),
        ),
        ("apps", Some(one.apps.join(", "))),
    ];
    facts
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)))
        .chain(one.warnings.iter().map(|text| ("warning", text.clone())))
        .map(|(name, value)| format!("{name:<9} {}", printable(&value)))
        .collect::<Vec<_>>()
        .join("\n")
}

#[cfg(test)]
mod tests {
    use vela_protocol::{CertificateDetails, CertificateOrigin};

    use super::*;

    fn failing() -> CertificateStatus {
        CertificateStatus {
            origin: CertificateOrigin::Acme,
            id: "shop.example".into(),
            apps: vec!["shop".into()],
            names: vec!["shop.example".into(), "www.shop.example".into()],
            certificate: Some(CertificateDetails {
                issuer: "CN=R11".into(),
                serial: "04:ab".into(),
                key: "ECDSA P-256".into(),
                not_before: "2026-09-01T00:00:00Z".parse().unwrap(),
                not_after: "2026-12-01T00:00:00Z".parse().unwrap(),
                days_left: 9,
            }),
            state: CertificateState::Failing {
                error: "cannot talk to the certificate authority".into(),
                hint: None,
                failures: 3,
                retry_at: "2026-11-22T00:00:00Z".parse().unwrap(),
            },
            warnings: vec!["the certificate expires in 9 days".into()],
        }
    }

    #[test]
    fn a_certificate_is_a_line() {
        assert_eq!(
            certificates_table(&[failing()]),
            "NAMES                           APPS  ORIGIN  STATE    UNTIL                 LEFT\n\
             shop.example, www.shop.example  shop  acme    failing  2026-12-01 00:00:00Z  9 days"
        );
    }

    #[test]
    fn its_details_say_what_is_wrong_with_it() {
        let text = details(&failing());
        for line in [
            "state     failing, 3 times; next try 2026-11-22 00:00:00Z",
            "key       ECDSA P-256",
            "until     2026-12-01 00:00:00Z (9 days)",
            "warning   the certificate expires in 9 days",
        ] {
            assert!(text.lines().any(|one| one == line), "{text}");
        }
    }
}
