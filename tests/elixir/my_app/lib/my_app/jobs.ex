defmodule MyApp.Jobs do
  @moduledoc "Does one job after another. When it is told to end, it ends once the jobs are done."
  use GenServer, shutdown: 60_000

  def start_link(_), do: GenServer.start_link(__MODULE__, [], name: __MODULE__)

  def take(name, ms), do: GenServer.cast(__MODULE__, {:job, name, ms})

  @impl true
  def init(_) do
    Process.flag(:trap_exit, true)
    {:ok, nil}
  end

  @impl true
  def handle_cast({:job, name, ms}, state) do
    MyApp.note("jobs", "#{name} begun")
    Process.sleep(ms)
    MyApp.note("jobs", "#{name} done")
    {:noreply, state}
  end

  @impl true
  def terminate(_reason, _state), do: MyApp.note("jobs", "terminated")
end
