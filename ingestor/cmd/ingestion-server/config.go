package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"
)

func configCommand() *cobra.Command {
	parent := group(&cobra.Command{Use: "config", Short: "Look at the configuration"})
	check := &cobra.Command{
		Use:   "check",
		Short: "Print the effective configuration, secrets masked, or say what is wrong with it and with the files it names",
		Args:  cobra.NoArgs,
	}
	cfgFlags := addConfigFlags(check.Flags())
	check.RunE = func(cmd *cobra.Command, _ []string) error {
		cfg, err := cfgFlags.load()
		if fileErr := cfg.CheckFiles(); fileErr != nil {
			err = errors.Join(err, usageError{fmt.Errorf("files that the configuration names:\n%w", fileErr)})
		}
		if err != nil {
			return err
		}
		if err := cfg.Print(cmd.OutOrStdout()); err != nil {
			return err
		}
		fmt.Fprintln(cmd.ErrOrStderr(), "configuration is valid")
		return nil
	}
	parent.AddCommand(check)
	return parent
}
