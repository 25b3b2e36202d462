package serverproc

// SetWrap replaces Options.Wrap for the processes that Restart starts from now on.
func (s *Server) SetWrap(argv []string) { s.options.Wrap = argv }
