defmodule MyApp.Web do
  @moduledoc "A web server of nothing but sockets."
  use Task

  @options [
    :binary,
    packet: :http_bin,
    active: false,
    reuseaddr: true,
    backlog: 128,
    nodelay: true
  ]

  def start_link(_) do
    port = Application.fetch_env!(:my_app, :port)
    {:ok, listener} = :gen_tcp.listen(port, [{:ip, {127, 0, 0, 1}} | @options])
    IO.puts("#{System.get_env("VELA_RELEASE")} listens as #{node()}")
    Task.start_link(fn -> accept(listener) end)
  end

  defp accept(listener) do
    {:ok, socket} = :gen_tcp.accept(listener)

    server =
      spawn(fn ->
        receive do
          :yours -> serve(socket)
        end
      end)

    :ok = :gen_tcp.controlling_process(socket, server)
    send(server, :yours)
    accept(listener)
  end

  defp serve(socket) do
    with {:ok, {:http_request, _, {:abs_path, path}, _}} <- :gen_tcp.recv(socket, 0),
         {:ok, close} <- headers(socket, false) do
      %URI{path: path, query: query} = URI.parse(path)
      {status, body} = answer(path, URI.decode_query(query || ""))
      connection = if close, do: "connection: close\r\n", else: ""

      head =
        "HTTP/1.1 #{status} #{status}\r\ncontent-length: #{byte_size(body)}\r\n" <>
          "x-release: #{System.get_env("VELA_RELEASE")}\r\n#{connection}\r\n"

      :ok = :gen_tcp.send(socket, [head, body])
      if close, do: :gen_tcp.close(socket), else: serve(socket)
    else
      _ -> :gen_tcp.close(socket)
    end
  end

  defp headers(socket, close) do
    case :gen_tcp.recv(socket, 0) do
      {:ok, {:http_header, _, :Connection, _, value}} ->
        headers(socket, String.downcase(value) == "close")

      {:ok, {:http_header, _, _, _, _}} ->
        headers(socket, close)

      {:ok, :http_eoh} ->
        {:ok, close}

      other ->
        other
    end
  end

  defp answer("/health", _), do: {200, "ok\n"}
  defp answer("/", _), do: {200, "#{System.get_env("VELA_RELEASE")}\n"}
  defp answer("/node", _), do: {200, "#{node()}"}

  defp answer("/env", _),
    do: {200, Enum.map_join(System.get_env(), "", fn {name, value} -> "#{name}=#{value}\n" end)}

  defp answer("/slow", %{"ms" => ms}) do
    Process.sleep(String.to_integer(ms))
    answer("/", %{})
  end

  defp answer("/job", %{"name" => name, "ms" => ms}) do
    MyApp.Jobs.take(name, String.to_integer(ms))
    {202, ""}
  end

  # Where does it work, and may it write there?
  defp answer("/planted", _) do
    written = File.write(Path.join(System.fetch_env!("RELEASE_ROOT"), "planted"), "x")
    {200, "#{File.cwd!()} #{inspect(written)}"}
  end

  defp answer("/crash", _), do: :erlang.halt('told to crash')
  defp answer(_, _), do: {404, "no such page\n"}
end
