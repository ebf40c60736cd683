defmodule MyApp.Release do
  @doc "What `bin/my_app eval` runs before a start."
  def migrate do
    IO.puts("migrating as #{node()}")

    [release, port, token] =
      for name <- ~w(VELA_RELEASE PORT TOKEN), do: System.get_env(name, "-")

    MyApp.note("migrated", "#{release} #{port} #{token} #{File.cwd!()}")
  end
end
