package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/ingestor-project/ingestor/ingestor/internal/credentials"
)

func keysCommand() *cobra.Command {
	parent := group(&cobra.Command{Use: "keys", Short: "Make API keys"})
	var id, tenant string
	var endpoints []string
	generate := &cobra.Command{
		Use:   "generate",
		Short: "Make an API key: the entry for the keys file goes to standard output, the key itself to standard error",
		Long: `Make an API key of 256 random bits. Standard output gets a keys file with one entry, which holds only a hash of the
key; standard error gets the key itself, this once. To add it to a file that is there, append all but the first line and send SIGHUP.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if tenant == "" {
				return usageError{errors.New("--tenant is required")}
			}
			key, entry, err := credentials.NewKey(id, tenant, endpoints)
			if err != nil {
				return usageError{err}
			}
			fmt.Fprint(cmd.OutOrStdout(), "keys:\n"+entry)
			fmt.Fprintln(cmd.ErrOrStderr(), key)
			return nil
		},
	}
	generate.Flags().StringVar(&id, "id", "default", "name of the key, for logs and metrics")
	generate.Flags().StringVar(&tenant, "tenant", "", "tenant that the key writes for (required)")
	generate.Flags().StringSliceVar(&endpoints, "endpoints", []string{"*"}, "permitted endpoints; a prefix ends in *")
	parent.AddCommand(generate)
	return parent
}

func credentialsCommand() *cobra.Command {
	parent := group(&cobra.Command{Use: "credentials", Short: "Make the secrets of a new installation"})
	var dir, tenant, databaseHost string
	initialise := &cobra.Command{
		Use:   "init",
		Short: "Fill a directory with an API key, its keys file and, with --database-host, a database password; keeps what is there",
		Args:  cobra.NoArgs,
		RunE:  func(*cobra.Command, []string) error { return credentials.Init(dir, tenant, databaseHost) },
	}
	initialise.Flags().StringVar(&tenant, "tenant", "dev", "tenant that the key writes for")
	initialise.Flags().StringVar(&databaseHost, "database-host", "", "host of the database that the password is for")
	show := &cobra.Command{
		Use:   "show",
		Short: "Print the API key of such a directory",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			key, err := credentials.APIKey(dir)
			if err != nil {
				return err
			}
			fmt.Fprintln(cmd.OutOrStdout(), key)
			return nil
		},
	}
	parent.PersistentFlags().StringVar(&dir, "dir", "secrets", "the directory")
	parent.AddCommand(initialise, show)
	return parent
}
