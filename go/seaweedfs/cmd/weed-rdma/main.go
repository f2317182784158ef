// The command weed-rdma is SeaweedFS's own weed with rdma-engine linked in. `weed-rdma volume …` and `server …` serve HTTP
// as ever and the engine beside it; `mount`, `filer`, `s3`, `webdav` and others read chunks through it from volume servers
// that do. See docs/seaweedfs.md; `weed-rdma help rdma` lists the settings.
package main

import (
	"fmt"
	"io/fs"
	"os"
	"testing/fstest"

	"github.com/seaweedfs/seaweedfs/weed/command"
	weed_server "github.com/seaweedfs/seaweedfs/weed/server"
	"github.com/seaweedfs/seaweedfs/weed/util"
	flag "github.com/seaweedfs/seaweedfs/weed/util/fla9"
	util_http "github.com/seaweedfs/seaweedfs/weed/util/http"
)

func main() {
	settings, args, err := takeSettings(os.Args[1:], os.LookupEnv)
	if err != nil {
		fmt.Fprintln(os.Stderr, "weed-rdma:", err)
		os.Exit(2)
	}
	os.Args = append(os.Args[:1], args...)
	// The pictures of SeaweedFS's status pages are in its program alone.
	weed_server.StaticFS = fs.FS(fstest.MapFS{})
	flag.Var(&util.ConfigurationFileDirectory, "config_dir", "directory with toml configuration files")
	flag.Usage = usage
	flag.Parse()
	os.Exit(run(flag.Args(), settings))
}

// run runs a command of SeaweedFS; the result is the exit status.
func run(args []string, settings settings) int {
	if len(args) == 0 || args[0] == "help" && len(args) < 2 {
		usage()
		return 2
	}
	help := args[0] == "help"
	if help {
		args = args[1:]
		if args[0] == "rdma" {
			fmt.Print(settingsHelp)
			return 0
		}
	}
	if args[0] == "rdma.cat" {
		return cat(args[1:], settings)
	}
	for _, cmd := range command.Commands {
		if cmd.Name() != args[0] || cmd.Run == nil {
			continue
		}
		cmd.Flag.Usage = func() {
			fmt.Fprintf(os.Stderr, "Usage: weed-rdma %s\n\n%s\n", cmd.UsageLine, cmd.Long)
			cmd.Flag.PrintDefaults()
		}
		if help {
			cmd.Flag.Usage()
			return 0
		}
		cmd.Flag.Parse(args[1:])
		if cmd.Name() != command.GetFuseCommandName() {
			util_http.InitGlobalHttpClient()
		}
		end := start(cmd, settings)
		ran := cmd.Run(cmd, cmd.Flag.Args())
		end()
		if !ran {
			cmd.Flag.Usage()
			return 1
		}
		return command.CommandExitStatus()
	}
	fmt.Fprintf(os.Stderr, "weed-rdma: there is no command %q; weed-rdma help lists them\n", args[0])
	return 2
}

func usage() {
	fmt.Fprint(os.Stderr, "SeaweedFS's weed with rdma-engine. Usage: weed-rdma [logging options] COMMAND [arguments]\n\n")
	for _, cmd := range command.Commands {
		if cmd.Run != nil {
			fmt.Fprintf(os.Stderr, "    %-24s %s\n", cmd.Name(), cmd.Short)
		}
	}
	fmt.Fprintf(os.Stderr, "    %-24s %s\n", "rdma.cat", "write a file of a volume server to the output, read through the engine alone")
	fmt.Fprint(os.Stderr, "\nhelp COMMAND says more, help rdma lists the engine's settings. Logging options:\n")
	flag.PrintDefaults()
}
