// Package tuning holds the numbers that package baseline judges one series by.
// They are here, and not constants there, so that test/benchmark/metrics can draw
// others around them and say how much the choice of them is worth on data that it
// was not made for. Nobody outside this module can set them.
package tuning

// Parameters are what a baseline.Series judges by.
type Parameters struct {
	// Near is how many samples the last few are, Scale how many a scale and Habit
	// how many the usual level look back; LongRun over how many of them surprise is
	// averaged.
	Near, Scale, Habit, LongRun float64
	// Prior is the weight of a calibration's first opinion, in samples.
	Prior float64
	// SeasonOffset, HabitOffset and PersistOffset are what a way of looking must be
	// better by to be believed before the others, in orders of magnitude of the
	// probability: how seldom each was the right one.
	SeasonOffset, HabitOffset, PersistOffset float64
	// Silence is after how many samples a score speaks again.
	Silence float64
	Alarm
}

// Alarm is where an anomaly begins and ends. Distances are in robust standard
// deviations.
type Alarm struct {
	// Far is the distance from the usual level with which an anomaly may begin
	// whatever the tail says, HourFar that from what is usual at the hour, which is
	// farther because it is known from few days.
	Far, HourFar float64
	// Odd is the least distance of an anomaly, Near that with which it goes on.
	Odd, End float64
	// Rarely is how often a sample so improbable may come, in samples a day.
	Rarely float64
	// Trust is how often a far sample may come: Trust/n times a day, n being the
	// samples of a day. It is eight times in a series of hours, once a week in one
	// of minutes.
	Trust float64
}

// Shipped are the parameters of everything that runs.
func Shipped() Parameters {
	return Parameters{
		Near: 6, Scale: 2000, Habit: 4000, LongRun: 30, Prior: 100,
		SeasonOffset: 0.15, HabitOffset: 0.5, PersistOffset: 0.25, Silence: 120,
		Alarm: Alarm{
			Far:     4.7, // one in a million of a Gaussian
			HourFar: 8, Odd: 4, End: 2.5, Rarely: 0.01, Trust: 192,
		},
	}
}
