//! Any bytes as a model file: an error, or a model that samples names within their limits and
//! evaluates them.

#![no_main]

use candle_core::Device;
use char_rnn::checkpoint;
use char_rnn::eval::evaluate;
use char_rnn::random::RngSource;
use char_rnn::sample::{SampleOptions, Sampler};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let mut source = bytes;
    let Ok(saved) = checkpoint::read(&mut source, "fuzz".as_ref(), &Device::Cpu) else { return };
    let plain = SampleOptions { max_length: 12, ..SampleOptions::default() };
    let filtered = SampleOptions {
        temperature: 0.5,
        top_k: Some(3),
        top_p: Some(0.9),
        min_length: 2,
        ..plain.clone()
    };
    for options in [plain, filtered] {
        options.check().unwrap();
        let names = Sampler::with_options(saved.model(), RngSource::Seed(1), options.clone(), 0..3);
        let names: Result<Vec<_>, _> = names.unwrap().collect();
        let names: Vec<Vec<u32>> = names.unwrap().into_iter().map(|name| name.indices).collect();
        assert_eq!(names.len(), 3);
        for name in &names {
            assert!((options.min_length..=options.max_length).contains(&name.len()));
            let text = saved.vocabulary.decode(name);
            assert_eq!(&saved.vocabulary.encode(&text).unwrap(), name);
            saved.known.contains(&text);
        }
        evaluate(saved.model(), &names).unwrap();
    }
});
