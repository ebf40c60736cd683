defmodule MyApp.Application do
  use Application

  @impl true
  def start(_type, _args) do
    Supervisor.start_link([MyApp.Jobs, MyApp.Web], strategy: :one_for_one)
  end

  @impl true
  def stop(_state), do: MyApp.note("stopped", System.get_env("VELA_INSTANCE"))
end
