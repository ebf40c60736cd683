import Config

# Read at every start, into a file of RELEASE_TMP.
config :my_app, port: String.to_integer(System.get_env("PORT", "4000"))
