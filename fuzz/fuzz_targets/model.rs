//! A model file of any bytes: it is refused, or makes names that end, and scores them.

#![no_main]

use candle_core::Device;
use char_rnn::checkpoint;
use char_rnn::eval::evaluate;
use char_rnn::random::Randomness;
use char_rnn::sample::{Names, Options};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let mut source = bytes;
    let Ok(saved) = checkpoint::read(&mut source, "fuzz".as_ref(), &Device::Cpu) else { return };
    let plain = Options { max_length: 12, ..Options::default() };
    let bent = Options {
        temperature: 0.5,
        top_k: Some(3),
        top_p: Some(0.9),
        min_length: 2,
        ..plain.clone()
    };
    for options in [plain, bent] {
        options.check().unwrap();
        let names = Names::with_options(&saved.model, Randomness::Seed(1), options.clone(), 0..3);
        let names: Result<Vec<_>, _> = names.unwrap().collect();
        let names: Vec<Vec<u32>> = names.unwrap().into_iter().map(|name| name.indices).collect();
        assert_eq!(names.len(), 3);
        for name in &names {
            assert!((options.min_length..=options.max_length).contains(&name.len()));
            let spelled = saved.vocabulary.decode(name);
            assert_eq!(&saved.vocabulary.encode(&spelled).unwrap(), name);
            if let Some(known) = &saved.known {
                known.contains(&spelled);
            }
        }
        evaluate(&saved.model, &names).unwrap();
    }
});
