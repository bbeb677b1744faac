// Package carried has in it what an image FROM scratch lacks: Mozilla's list of
// certificate authorities and the time zones. A machine that has its own uses its
// own; SSL_CERT_FILE and SSL_CERT_DIR name others. It is for main packages alone,
// which import it for its effect.
package carried

import (
	_ "time/tzdata" // of a CronJob's spec.timeZone

	_ "golang.org/x/crypto/x509roots/fallback"
)
