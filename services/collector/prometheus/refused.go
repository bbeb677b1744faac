package prometheus

// tell logs what the server refuses of the queries, once until it says something else.
func (s *Source) tell(refused []string) {
	said := map[string]string{}
	for i, q := range s.queries {
		if why := refused[i]; why != "" {
			if said[q.name()] = why; s.refused[q.name()] != why {
				s.env.Log.Error("query refused, left out; see oncall doctor", "source", s.cfg.Name, "family", q.family, "signal", q.Signal, "err", why)
			}
		}
	}
	s.refused = said
}
