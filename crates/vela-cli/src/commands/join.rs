use crate::args::Join;
use crate::failure::Failure;

pub(crate) async fn run(args: Join) -> Result<(), Failure> {
    vela_control::join(args.socket, tokio::io::stdin(), tokio::io::stdout())
        .await
        .map_err(|error| Failure::of(&error))
}
