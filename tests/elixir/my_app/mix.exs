defmodule MyApp.MixProject do
  use Mix.Project

  def project do
    [
      app: :my_app,
      version: "0.1.0",
      elixir: "~> 1.14",
      start_permanent: true,
      deps: [],
      # So that each start writes its configuration to RELEASE_TMP.
      releases: [my_app: [reboot_system_after_config: true]]
    ]
  end

  def application do
    [extra_applications: [:logger], mod: {MyApp.Application, []}]
  end
end
