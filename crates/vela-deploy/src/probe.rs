use std::io;
use std::sync::Arc;

use async_trait::async_trait;
use vela_health::{
    Eager, Exec, ExecOutput, ExecProbe, HttpProbe, InvalidHttpProbe, Policy, Probe, StatusMatch,
    TcpProbe,
};
use vela_manifest::{Health, Timing};
use vela_supervisor::ExitStatus;

use crate::launch::Launch;
use crate::task::Task;

/// The probe that `[deploy] health` asks for.
pub(crate) fn probe(
    health: &Health,
    launch: &Arc<Launch>,
    port: u16,
) -> Result<Box<dyn Probe>, InvalidHttpProbe> {
    Ok(match health {
        Health::Tcp(_) => Box::new(TcpProbe::new()),
        Health::Http {
            path,
            port,
            method,
            host,
            expect,
            follow_redirects,
            ..
        } => {
            let mut probe = HttpProbe::new(path)?
                .method(method.as_str())?
                .expect(StatusMatch::exact(*expect))
                .follow_redirects(*follow_redirects);
            if let Some(host) = host {
                probe = probe.host(host)?;
            }
            if let Some(port) = port {
                probe = probe.port(*port);
            }
            Box::new(probe)
        }
        Health::Exec { command, .. } => {
            let exec = Arc::new(InstanceExec {
                launch: Arc::clone(launch),
                port,
            });
            Box::new(ExecProbe::new(command, exec))
        }
    })
}

/// How often and how long that probe is tried.
pub(crate) fn policy(timing: &Timing) -> Policy {
    Policy {
        interval: timing.interval,
        timeout: timing.timeout,
        retries: timing.retries,
        grace: timing.grace,
        eager: Eager::default(),
    }
}

/// Runs a probe's command like a hook: the app's user, environment and directory.
#[derive(Debug)]
struct InstanceExec {
    launch: Arc<Launch>,
    port: u16,
}

#[async_trait]
impl Exec for InstanceExec {
    async fn run(&self, command: &str) -> io::Result<ExecOutput> {
        let mut task = Task::start(&self.launch, "health", command, self.port)
            .await
            .map_err(io::Error::other)?;
        let mut last_line = None;
        let status = task.run(|_, line| last_line = Some(line)).await;
        let (status, signal) = match status {
            ExitStatus::Code(code) => (Some(code), None),
            ExitStatus::Signal(signal) => (None, Some(signal)),
            ExitStatus::Unknown => (None, None),
        };
        Ok(ExecOutput {
            status,
            signal,
            last_line,
        })
    }
}
