//! Variance, standard deviation, covariance, correlation and the `regr_*` family.
//!
//! All of them are quotients of exact sums: n, Σx, Σy, Σxx, Σyy, Σxy. With `D(a,b) = n·Σab − Σa·Σb`, computed without
//! rounding, the variance is `D(x,x)/n²`, the correlation `D(x,y)/√(D(x,x)·D(y,y))`, and so on; only the last step
//! rounds. There is no cancellation and nothing drifts, whatever was added and retracted. Where a value is NaN or
//! infinite, so is the answer: NaN (PostgreSQL says NaN or an error there).

use arrow::array::{AsArray, Float64Array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type, i256};

use super::dyadic::Dyadic;
use super::encoding::{Reader, put_signed};
use super::exact_sum::ExactSum;
use super::states::{Accumulate, GroupStates, GroupedRows, Output, merge_each};
use crate::error::Result;

/// Which quotient.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    VariancePopulation,
    VarianceSample,
    DeviationPopulation,
    DeviationSample,
    CovariancePopulation,
    CovarianceSample,
    Correlation,
    Slope,
    Intercept,
    RegressionCount,
    R2,
    AverageX,
    AverageY,
    Sxx,
    Syy,
    Sxy,
}

impl Moment {
    /// By DataFusion's function name.
    pub fn of_name(name: &str) -> Option<Self> {
        Some(match name {
            "var" | "var_samp" | "var_sample" | "variance" => Moment::VarianceSample,
            "var_pop" | "var_population" => Moment::VariancePopulation,
            "stddev" | "stddev_samp" => Moment::DeviationSample,
            "stddev_pop" => Moment::DeviationPopulation,
            "covar" | "covar_samp" => Moment::CovarianceSample,
            "covar_pop" => Moment::CovariancePopulation,
            "corr" => Moment::Correlation,
            "regr_slope" => Moment::Slope,
            "regr_intercept" => Moment::Intercept,
            "regr_count" => Moment::RegressionCount,
            "regr_r2" => Moment::R2,
            "regr_avgx" => Moment::AverageX,
            "regr_avgy" => Moment::AverageY,
            "regr_sxx" => Moment::Sxx,
            "regr_syy" => Moment::Syy,
            "regr_sxy" => Moment::Sxy,
            _ => return None,
        })
    }

    /// Whether the function takes `(y, x)` instead of one argument.
    fn has_two_arguments(self) -> bool {
        !matches!(
            self,
            Moment::VariancePopulation
                | Moment::VarianceSample
                | Moment::DeviationPopulation
                | Moment::DeviationSample
        )
    }
}

/// The sums of one group. With one argument only those of `x` are used.
#[derive(Debug, Clone, Default)]
struct Sums {
    count: i64,
    /// Rows with a NaN or an infinity; they are in `count` but not in the sums.
    non_finite: i64,
    x: ExactSum<i128>,
    xx: ExactSum<i256>,
    y: ExactSum<i128>,
    yy: ExactSum<i256>,
    xy: ExactSum<i256>,
}

/// Linear. State: the counts and sums above.
pub struct MomentStates {
    moment: Moment,
    data_type: DataType,
    sums: Vec<Sums>,
}

impl MomentStates {
    /// With results of `data_type`.
    pub fn new(moment: Moment, data_type: DataType) -> Self {
        MomentStates {
            moment,
            data_type,
            sums: Vec::new(),
        }
    }
}

impl Accumulate for MomentStates {
    fn update(&mut self, rows: &GroupedRows<'_>) -> Result<()> {
        let first = cast(&rows.args[0], &DataType::Float64)?;
        let first = first.as_primitive::<Float64Type>().values();
        let sums = &mut self.sums;
        if !self.moment.has_two_arguments() {
            rows.for_each_valid(|row, group, weight| sums[group].add_one(first[row], weight));
            return Ok(());
        }
        let second = cast(&rows.args[1], &DataType::Float64)?;
        let second = second.as_primitive::<Float64Type>().values();
        rows.for_each_valid(|row, group, weight| {
            sums[group].add_pair(second[row], first[row], weight);
        });
        Ok(())
    }
}

impl GroupStates for MomentStates {
    fn resize(&mut self, groups: usize) {
        self.sums.resize(groups, Sums::default());
    }

    fn merge_stored(&mut self, readers: &mut [Option<Reader<'_>>]) -> Result<()> {
        let has_y = self.moment.has_two_arguments();
        merge_each(readers, |group, reader| {
            let sums = &mut self.sums[group];
            sums.count += reader.signed()?;
            sums.non_finite += reader.signed()?;
            sums.x.merge_stored(reader)?;
            sums.xx.merge_stored(reader)?;
            if has_y {
                sums.y.merge_stored(reader)?;
                sums.yy.merge_stored(reader)?;
                sums.xy.merge_stored(reader)?;
            }
            Ok(())
        })
    }

    fn store(&self, group: usize, out: &mut Vec<u8>) {
        let sums = &self.sums[group];
        put_signed(sums.count, out);
        put_signed(sums.non_finite, out);
        sums.x.store(out);
        sums.xx.store(out);
        if self.moment.has_two_arguments() {
            sums.y.store(out);
            sums.yy.store(out);
            sums.xy.store(out);
        }
    }

    fn output(&self) -> Result<Output> {
        let values: Float64Array = self
            .sums
            .iter()
            .map(|sums| sums.finish(self.moment))
            .collect();
        Ok(Output::of(cast(&values, &self.data_type)?))
    }
}

impl Sums {
    #[inline]
    fn add_one(&mut self, x: f64, weight: i64) {
        self.count += weight;
        if !x.is_finite() {
            self.non_finite += weight;
            return;
        }
        self.x.add(x, weight);
        self.xx.add_product(x, x, weight);
    }

    #[inline]
    fn add_pair(&mut self, x: f64, y: f64, weight: i64) {
        if !y.is_finite() {
            self.count += weight;
            self.non_finite += weight;
            return;
        }
        self.add_one(x, weight);
        if x.is_finite() {
            self.y.add(y, weight);
            self.yy.add_product(y, y, weight);
            self.xy.add_product(x, y, weight);
        }
    }

    /// `n·Σab − Σa·Σb`.
    fn spread(&self, ab: &ExactSum<i256>, a: &ExactSum<i128>, b: &ExactSum<i128>) -> Dyadic {
        let count = Dyadic::integer(self.count);
        count
            .multiply(&ab.exact())
            .subtract(&a.exact().multiply(&b.exact()))
    }

    fn spread_x(&self) -> Dyadic {
        self.spread(&self.xx, &self.x, &self.x)
    }

    fn spread_y(&self) -> Dyadic {
        self.spread(&self.yy, &self.y, &self.y)
    }

    fn spread_xy(&self) -> Dyadic {
        self.spread(&self.xy, &self.x, &self.y)
    }

    fn finish(&self, moment: Moment) -> Option<f64> {
        let count = self.count;
        if moment == Moment::RegressionCount {
            return Some(count as f64);
        }
        let needed = match moment {
            Moment::VarianceSample | Moment::DeviationSample | Moment::CovarianceSample => 2,
            _ => 1,
        };
        if count < needed {
            return None;
        }
        if self.non_finite != 0 {
            return Some(f64::NAN);
        }
        let n = Dyadic::integer(count);
        let population = n.multiply(&n);
        let sample = n.multiply(&Dyadic::integer(count - 1));
        match moment {
            Moment::VariancePopulation => Some(self.spread_x().divide(&population)),
            Moment::VarianceSample => Some(self.spread_x().divide(&sample)),
            Moment::DeviationPopulation => Some(self.spread_x().divide(&population).sqrt()),
            Moment::DeviationSample => Some(self.spread_x().divide(&sample).sqrt()),
            Moment::CovariancePopulation => Some(self.spread_xy().divide(&population)),
            Moment::CovarianceSample => Some(self.spread_xy().divide(&sample)),
            Moment::AverageX => Some(self.x.mean(count.unsigned_abs())),
            Moment::AverageY => Some(self.y.mean(count.unsigned_abs())),
            Moment::Sxx => Some(self.spread_x().divide(&n)),
            Moment::Syy => Some(self.spread_y().divide(&n)),
            Moment::Sxy => Some(self.spread_xy().divide(&n)),
            Moment::Correlation | Moment::Slope | Moment::Intercept | Moment::R2 => {
                self.finish_fit(moment)
            }
            Moment::RegressionCount => Some(count as f64),
        }
    }

    /// The parameters of the line through the points; NULL where it is not determined.
    fn finish_fit(&self, moment: Moment) -> Option<f64> {
        let (x, y, xy) = (self.spread_x(), self.spread_y(), self.spread_xy());
        if x.is_zero() || (moment == Moment::Correlation && y.is_zero()) {
            return None;
        }
        Some(match moment {
            Moment::Slope => xy.divide(&x),
            Moment::Intercept => {
                let left = self.y.exact().multiply(&self.xx.exact());
                left.subtract(&self.x.exact().multiply(&self.xy.exact()))
                    .divide(&x)
            }
            Moment::R2 if y.is_zero() => 1.0,
            Moment::R2 => xy.multiply(&xy).divide(&x.multiply(&y)),
            _ => xy.divide_by_root(&x.multiply(&y)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sums(points: &[(f64, f64)]) -> Sums {
        let mut sums = Sums::default();
        points.iter().for_each(|&(x, y)| sums.add_pair(x, y, 1));
        sums
    }

    #[test]
    fn a_line_is_found() {
        let line = sums(&[(1.0, 3.0), (2.0, 5.0), (4.0, 9.0)]);
        for (moment, expected) in [
            (Moment::Slope, 2.0),
            (Moment::Intercept, 1.0),
            (Moment::R2, 1.0),
            (Moment::Correlation, 1.0),
            (Moment::AverageX, 7.0 / 3.0),
            (Moment::AverageY, 17.0 / 3.0),
            (Moment::RegressionCount, 3.0),
            (Moment::VariancePopulation, 14.0 / 9.0),
            (Moment::VarianceSample, 7.0 / 3.0),
            (Moment::CovarianceSample, 14.0 / 3.0),
            (Moment::Sxx, 14.0 / 3.0),
            (Moment::Syy, 56.0 / 3.0),
            (Moment::Sxy, 28.0 / 3.0),
        ] {
            assert_eq!(line.finish(moment), Some(expected), "{moment:?}");
        }
    }

    #[test]
    fn small_spreads_on_large_values_are_exact() {
        let far = sums(&[(1e9 + 1.0, 0.0), (1e9 + 2.0, 0.0), (1e9 + 3.0, 0.0)]);
        assert_eq!(far.finish(Moment::VarianceSample), Some(1.0));
        let mut tiny = Sums::default();
        tiny.add_one(1e-200, 1);
        tiny.add_one(3e200, 1);
        tiny.add_one(3e200, -1);
        assert_eq!(tiny.finish(Moment::VariancePopulation), Some(0.0));
    }

    #[test]
    fn undetermined_is_null() {
        let empty = sums(&[]);
        let one = sums(&[(1.0, 2.0)]);
        for moment in [
            Moment::VarianceSample,
            Moment::Correlation,
            Moment::Slope,
            Moment::R2,
        ] {
            assert_eq!(empty.finish(moment), None, "{moment:?}");
            assert_eq!(one.finish(moment), None, "{moment:?}");
        }
        assert_eq!(one.finish(Moment::VariancePopulation), Some(0.0));
        assert_eq!(
            sums(&[(1.0, 5.0), (2.0, 5.0)]).finish(Moment::R2),
            Some(1.0)
        );
        assert!(
            sums(&[(f64::NAN, 1.0)])
                .finish(Moment::Sxx)
                .is_some_and(f64::is_nan)
        );
    }
}
