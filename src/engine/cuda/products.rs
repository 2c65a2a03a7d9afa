//! Matrix products by cublasLt, planned once for each shape.
//!
//! The library sees columns where we see rows, so `out = x weight^T` is asked for as `out^T = weight x^T`: a transposed
//! first operand with both inner dimensions contiguous, its fastest form.
//!
//! No product may be split along its inner dimension: partial sums that meet in memory would make a row's bits depend on
//! the plan. [`Plans`] says whether the number of rows may choose the plan.

use std::{
    collections::BTreeMap,
    ffi::c_void,
    sync::{Mutex, PoisonError},
};

use cudarc::cublaslt::{result, sys};

use super::{
    Numbers, Plans,
    driver::{Address, DriverError, Epilogue, Product, ProductShape},
};

/// Scratch memory that a product may use; one buffer for each stream.
pub const WORKSPACE_BYTES: usize = 32 << 20;
/// Rows for which the plan is made where one serves all.
const FIXED_ROWS: usize = 1_024;
/// Plans that are kept; past this, one is made for each call.
const PLANS_MAX: usize = 8_192;

pub struct Products {
    handle: sys::cublasLtHandle_t,
    kind: sys::cudaDataType,
    plans: Plans,
    made: Mutex<BTreeMap<Key, Plan>>,
}

/// What a plan depends on: the bias is part of the library's description.
type Key = (ProductShape, usize, Address);

#[derive(Clone, Copy)]
struct Plan {
    description: sys::cublasLtMatmulDesc_t,
    weight: sys::cublasLtMatrixLayout_t,
    x: sys::cublasLtMatrixLayout_t,
    out: sys::cublasLtMatrixLayout_t,
    algorithm: sys::cublasLtMatmulAlgo_t,
}

// SAFETY: the library's handle may be used by threads at once, and plans are only read once they are made.
unsafe impl Send for Products {}
// SAFETY: as above.
unsafe impl Sync for Products {}

fn failed(what: &str) -> impl Fn(result::CublasError) -> DriverError + '_ {
    move |error| DriverError::Failed(format!("cublasLt, {what}: {error}"))
}

impl Products {
    /// The device's context must be current.
    pub fn new(numbers: Numbers, plans: Plans) -> Result<Self, DriverError> {
        Ok(Self {
            handle: result::create_handle().map_err(failed("start"))?,
            kind: match numbers {
                Numbers::Bf16 => sys::cudaDataType::CUDA_R_16BF,
                Numbers::F16 => sys::cudaDataType::CUDA_R_16F,
            },
            plans,
            made: Mutex::new(BTreeMap::new()),
        })
    }

    pub fn version() -> usize {
        // SAFETY: takes and touches nothing.
        unsafe { sys::cublasLtGetVersion() }
    }

    /// # Safety
    /// The product's places must hold its matrices, `workspace` [`WORKSPACE_BYTES`]; the context must be current.
    pub unsafe fn run(
        &self,
        product: &Product,
        workspace: Address,
        stream: sys::cudaStream_t,
    ) -> Result<(), DriverError> {
        let plan = self.plan(product)?;
        let (alpha, beta) = (1.0f32, 0.0f32);
        let place = |address: Address| address.0 as *mut c_void;
        // SAFETY: the caller's for the matrices; the plan's parts live as long as `self`.
        unsafe {
            result::matmul(
                self.handle,
                plan.description,
                (&raw const alpha).cast(),
                (&raw const beta).cast(),
                place(product.weight),
                plan.weight,
                place(product.x),
                plan.x,
                place(product.out),
                plan.out,
                place(product.out),
                plan.out,
                &raw const plan.algorithm,
                place(workspace),
                WORKSPACE_BYTES,
                stream,
            )
        }
        .map_err(failed("product"))
    }

    fn plan(&self, product: &Product) -> Result<Plan, DriverError> {
        let key = (product.shape, product.rows, product.bias);
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(plan) = made.get(&key) {
            return Ok(*plan);
        }
        if made.len() >= PLANS_MAX {
            return Err(DriverError::Failed(format!("more than {PLANS_MAX} shapes of products")));
        }
        let mut plan = self.describe(product)?;
        plan.algorithm = match self.plans {
            Plans::ByRows => self.algorithm(&plan)?,
            Plans::Fixed => {
                let fixed = self.describe(&Product { rows: FIXED_ROWS, ..*product })?;
                let algorithm = self.algorithm(&fixed)?;
                fixed.destroy();
                if self.suits(&plan, &algorithm) { algorithm } else { self.algorithm(&plan)? }
            }
        };
        made.insert(key, plan);
        Ok(plan)
    }

    /// Everything but the algorithm.
    fn describe(&self, product: &Product) -> Result<Plan, DriverError> {
        let ProductShape { inputs, outputs, epilogue } = product.shape;
        let layout = |rows: usize, columns: usize| {
            result::create_matrix_layout(self.kind, rows as u64, columns as u64, rows as i64)
                .map_err(failed("layout"))
        };
        let description = result::create_matmul_desc(
            sys::cublasComputeType_t::CUBLAS_COMPUTE_32F,
            sys::cudaDataType::CUDA_R_32F,
        )
        .map_err(failed("description"))?;
        use sys::cublasLtMatmulDescAttributes_t as Attribute;
        let set = |attribute, value: *const c_void, bytes: usize| {
            // SAFETY: made above; the value has the size that is given.
            unsafe { result::set_matmul_desc_attribute(description, attribute, value, bytes) }
                .map_err(failed("description"))
        };
        // CUBLAS_OP_T
        let transposed = 1i32;
        set(Attribute::CUBLASLT_MATMUL_DESC_TRANSA, (&raw const transposed).cast(), 4)?;
        let epilogue = match epilogue {
            Epilogue::Nothing => sys::cublasLtEpilogue_t::CUBLASLT_EPILOGUE_DEFAULT,
            Epilogue::Bias => sys::cublasLtEpilogue_t::CUBLASLT_EPILOGUE_BIAS,
            Epilogue::BiasGeluTanh => sys::cublasLtEpilogue_t::CUBLASLT_EPILOGUE_GELU_BIAS,
            Epilogue::BiasRelu => sys::cublasLtEpilogue_t::CUBLASLT_EPILOGUE_RELU_BIAS,
        } as u32;
        set(Attribute::CUBLASLT_MATMUL_DESC_EPILOGUE, (&raw const epilogue).cast(), 4)?;
        if product.shape.epilogue != Epilogue::Nothing {
            let bias = product.bias.0;
            set(Attribute::CUBLASLT_MATMUL_DESC_BIAS_POINTER, (&raw const bias).cast(), 8)?;
        }
        Ok(Plan {
            description,
            weight: layout(inputs, outputs)?,
            x: layout(inputs, product.rows)?,
            out: layout(outputs, product.rows)?,
            // SAFETY: plain numbers, all of which may be 0; replaced before it is used.
            algorithm: unsafe { std::mem::zeroed() },
        })
    }

    fn suits(&self, plan: &Plan, algorithm: &sys::cublasLtMatmulAlgo_t) -> bool {
        let mut found = std::mem::MaybeUninit::<sys::cublasLtMatmulHeuristicResult_t>::zeroed();
        // SAFETY: the plan's parts and the algorithm are whole; the answer is written.
        let answer = unsafe {
            sys::cublasLtMatmulAlgoCheck(
                self.handle,
                plan.description,
                plan.weight,
                plan.x,
                plan.out,
                plan.out,
                algorithm,
                found.as_mut_ptr(),
            )
            .result()
            .map(|()| found.assume_init())
        };
        answer.is_ok_and(|found| found.workspaceSize <= WORKSPACE_BYTES)
    }

    /// What the library holds for fastest among plans that do not split the inner dimension.
    fn algorithm(&self, plan: &Plan) -> Result<sys::cublasLtMatmulAlgo_t, DriverError> {
        use sys::cublasLtMatmulPreferenceAttributes_t as Attribute;
        let preference = result::create_matmul_pref().map_err(failed("preference"))?;
        let workspace = WORKSPACE_BYTES;
        // CUBLASLT_REDUCTION_SCHEME_NONE
        let reductions = 0u32;
        // SAFETY: made above and destroyed below; values have the sizes that are given.
        let found = unsafe {
            let set = |attribute, value: *const c_void, bytes| {
                result::set_matmul_pref_attribute(preference, attribute, value, bytes)
            };
            set(Attribute::CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, (&raw const workspace).cast(), 8)
                .and_then(|()| {
                    set(
                        Attribute::CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
                        (&raw const reductions).cast(),
                        4,
                    )
                })
                .and_then(|()| {
                    result::get_matmul_algo_heuristic(
                        self.handle,
                        plan.description,
                        plan.weight,
                        plan.x,
                        plan.out,
                        plan.out,
                        preference,
                    )
                })
        };
        // SAFETY: made above, destroyed once.
        let _ = unsafe { result::destroy_matmul_pref(preference) };
        found.map(|f| f.algo).map_err(failed("plan"))
    }
}

impl Plan {
    fn destroy(self) {
        // SAFETY: made by `describe`, destroyed once; errors leave nothing to do.
        unsafe {
            let _ = result::destroy_matmul_desc(self.description);
            for layout in [self.weight, self.x, self.out] {
                let _ = result::destroy_matrix_layout(layout);
            }
        }
    }
}

impl Drop for Products {
    fn drop(&mut self) {
        let made = std::mem::take(&mut *self.made.lock().unwrap_or_else(PoisonError::into_inner));
        made.into_values().for_each(Plan::destroy);
        // SAFETY: made by `new`, destroyed once.
        let _ = unsafe { result::destroy_handle(self.handle) };
    }
}
