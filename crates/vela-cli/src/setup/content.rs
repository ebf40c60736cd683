/// Where the binary is installed.
pub(super) const PROGRAM: &str = "/usr/local/bin/vela";

/// The configuration that setup writes when there is none.
pub(super) const SERVER_TOML: &str = "\
# The configuration of the Vela daemon. What is commented out is the default.

# data_dir = \"/var/vela\"
# socket = \"/run/vela/vela.sock\"

[proxy]
# bind = [\"0.0.0.0\", \"::\"]
# http_port = 80
# https_port = 443
# Whose word counts about a client's address: load balancers and CDNs in front of this server.
# trusted_proxies = [\"10.0.0.0/8\"]
# client_ip_header = \"CF-Connecting-IP\"
# Metrics for Prometheus, on this machine alone.
# metrics = \"127.0.0.1:9180\"

# [proxy.access_log]
# path = \"/var/log/vela/access.log\"

# HTTPS, with certificates from Let's Encrypt for the hosts of all apps.
# [tls]
# acme_email = \"you@example.com\"

[apps]
# Each app runs as a system user of its own.
# isolate = true
# first_port = 10000
# last_port = 20000

[services.postgres]
# A directory that has <version>/bin in it, looked into before /usr/lib/postgresql.
# programs = \"/opt/postgresql\"

[services.nats]
# Where nats-server is downloaded from where the machine has none that fits.
# url = \"https://mirror.example/nats-server-v{version}-linux-{arch}.tar.gz\"
";

/// The systemd unit.
///
/// `KillMode=process` and `Delegate=yes` let the apps outlive the daemon, the fd store keeps the listeners bound over a
/// restart, `OOMPolicy=continue` keeps one app's memory from ending all of them, and a start that takes long because many
/// apps are restored is not taken for a hang: the daemon is ready before they are.
pub(super) const UNIT: &str = "\
[Unit]
Description=Vela, zero-downtime deploys
After=network-online.target
Wants=network-online.target

[Service]
Type=notify
ExecStart=/usr/local/bin/vela serve --config /etc/vela/server.toml
Restart=always
RestartSec=100ms
KillMode=process
Delegate=yes
FileDescriptorStoreMax=64
RuntimeDirectory=vela
RuntimeDirectoryPreserve=yes
LimitNOFILE=524288
TasksMax=infinity
OOMPolicy=continue

[Install]
WantedBy=multi-user.target
";
