from colm_vl.extras import part

part("eval.cli").main()
