defmodule MyApp do
  @doc "Adds a line to a file of the data directory."
  def note(file, line) do
    path = Path.join(System.fetch_env!("VELA_DATA_DIR"), file)
    File.write!(path, "#{line}\n", [:append])
  end
end
